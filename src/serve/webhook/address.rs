//! Which addresses a webhook may connect to. What a name resolves to is the receiver's to say, so
//! without this check a message could be sent to a database beside us, or to a cloud's metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What is not a public host's, of IANA's registry of special IPv4 addresses (RFC 6890), and
/// multicast and what is reserved.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 31, 196, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// The addresses that are given to hosts of the internet (RFC 4291 section 2.4, IANA).
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

/// Within those: protocols and tunnels, some of which hold an IPv4 address, and documentation.
const SPECIAL_V6: [Ipv6Net; 4] =
    [v6(0x2001, 0, 23), v6(0x2001, 0x0db8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(first: u16, second: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), length)
}

/// Whether a message may go there: to a public address over TLS, or to one in `allowed`.
pub(super) fn may_connect(address: IpAddr, allowed: &[IpNet], over_tls: bool) -> bool {
    // An IPv6 socket reaches IPv4 hosts by mapped addresses (RFC 4291 section 2.5.5.2).
    let address = address.to_canonical();
    allowed.iter().any(|network| network.contains(&address)) || over_tls && is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            let is_special = SPECIAL_V6.iter().any(|network| network.contains(&address));
            GLOBAL_V6.contains(&address) && !is_special
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn private_and_special_addresses_are_refused() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
        ] {
            assert!(!may_connect(address(text), &[], true), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_not() {
        for text in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(may_connect(address(text), &[], true), "{text}");
            assert!(!may_connect(address(text), &[], false), "{text} without TLS");
        }
    }

    #[test]
    fn what_is_allowed_is_and_nothing_beside_it() {
        let allowed = ["10.1.0.0/16".parse().expect("a network"), "::1/128".parse().expect("one")];
        for text in ["10.1.2.3", "::ffff:10.1.2.3", "::1"] {
            assert!(may_connect(address(text), &allowed, false), "{text}");
        }
        for text in ["10.2.0.1", "127.0.0.1", "::2"] {
            assert!(!may_connect(address(text), &allowed, true), "{text}");
        }
    }
}
