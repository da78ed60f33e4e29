//! Listening sockets: bound here, or handed over by systemd, which keeps them open over a
//! restart so that no connection is refused meanwhile.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use tokio::net::TcpSocket;

/// Connections that the kernel completes before they are accepted; it takes no more than its own
/// limit, net.core.somaxconn. In a burst of more than fit, clients wait a second or longer before
/// they knock again, and the standard library asks for 128 only.
const BACKLOG: u32 = 4096;

/// The two listening sockets.
#[derive(Debug)]
pub struct Sockets {
    pub(super) public: tokio::net::TcpListener,
    pub(super) api: tokio::net::TcpListener,
}

impl Sockets {
    /// Takes both sockets from systemd, public first (systemd.socket(5), `LISTEN_FDS`), or binds
    /// the addresses given. Has to be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound, or systemd handed over something else than two sockets.
    pub fn open(public: SocketAddr, api: SocketAddr) -> Result<Self, BindError> {
        let mut handed = ListenFd::from_env();
        match handed.len() {
            0 => Ok(Self { public: bind("public.listen", public)?, api: bind("api.listen", api)? }),
            2 => Ok(Self { public: take(&mut handed, 0)?, api: take(&mut handed, 1)? }),
            n => Err(BindError::Handed(format!(
                "systemd handed over {n} sockets: the socket unit needs two ListenStream= lines, \
                 the public address first"
            ))),
        }
    }

    /// Where the public listener listens.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Where the API listener listens.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn api_address(&self) -> io::Result<SocketAddr> {
        self.api.local_addr()
    }
}

fn bind(key: &'static str, address: SocketAddr) -> Result<tokio::net::TcpListener, BindError> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restart does not wait for the ends of the last process's connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|error| BindError::Bind { key, address, error })
}

fn take(handed: &mut ListenFd, index: usize) -> Result<tokio::net::TcpListener, BindError> {
    let socket = handed.take_tcp_listener(index).map_err(|e| BindError::Handed(e.to_string()))?;
    let socket = socket.ok_or_else(|| BindError::Handed(format!("socket {index} is missing")))?;
    into_tokio(socket).map_err(|e| BindError::Handed(e.to_string()))
}

fn into_tokio(socket: TcpListener) -> io::Result<tokio::net::TcpListener> {
    socket.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(socket)
}

/// Why there are no listening sockets.
#[derive(Debug)]
pub enum BindError {
    /// An address could not be bound.
    Bind {
        /// The configuration key that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// What systemd handed over is of no use.
    Handed(String),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { key, address, error } => {
                write!(
                    f,
                    "cannot listen on {address} ({error}): is another service running there? \
                     --set {key}=HOST:PORT chooses another address"
                )
            }
            Self::Handed(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for BindError {}
