//! nginx and Caddy in front of the service, with their deployed configuration.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::{LIST, Place, Service, text};
use crate::{
    Clicks, HeldSockets, Running, adapt, assert_opted_out, deployed, done, free_port, open_to_all,
    program, recipients, wait_for,
};

const HOST: &str = "leave.example.com";
const NGINX: [&str; 3] = ["nginx", "openssl", "curl"];
const CADDY: [&str; 3] = ["caddy", "openssl", "curl"];

/// Trusts the proxy, as deploy/nginx.conf and deploy/Caddyfile ask for.
fn place() -> Place {
    Place::with_store().set("public.trusted_proxies=127.0.0.1/32")
}

fn programs(test: &str, names: [&str; 3]) -> Option<PathBuf> {
    let found = names.map(|name| program(test, name));
    found.into_iter().collect::<Option<Vec<_>>>().map(|mut all| all.swap_remove(0))
}

/// A proxy that runs, and clients of it.
struct Proxy {
    running: Running,
    port: u16,
    certificate: PathBuf,
    dir: PathBuf,
}

impl Proxy {
    /// deploy/nginx.conf with the addresses and files of a test.
    fn nginx(program: &Path, place: &Place, service: SocketAddr) -> Self {
        let (dir, certificate, key) = prepare(place);
        let port = free_port();
        let shown = dir.display();
        let conf = deployed("nginx.conf");
        let conf = adapt(conf, "127.0.0.1:8080", &service.to_string());
        let conf = adapt(conf, "listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"));
        let conf = adapt(conf, "listen [::]:443 ssl;", "");
        let conf = adapt(conf, "/etc/ssl/optout/fullchain.pem", path(&certificate));
        let conf = adapt(conf, "/etc/ssl/optout/privkey.pem", path(&key));
        let conf = adapt(conf, "/var/log/nginx", path(&dir));
        fs::write(dir.join("optout.conf"), conf).expect("own directory");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {shown}/{name};\n"));
        let main = format!(
            "daemon off;\npid {shown}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off;\n{}include {shown}/optout.conf;\n}}\n",
            temporary.concat()
        );
        fs::write(dir.join("nginx.conf"), main).expect("own directory");
        let mut command = Command::new(program);
        command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
        command.args(["-e", "stderr"]);
        Self::start(command, port, certificate, dir)
    }

    /// deploy/Caddyfile with the addresses and files of a test.
    fn caddy(program: &Path, place: &Place, service: SocketAddr) -> Self {
        let (dir, certificate, key) = prepare(place);
        let port = free_port();
        let site = format!(
            "https://{HOST}:{port} {{\n\tbind 127.0.0.1\n\ttls {} {}\n",
            path(&certificate),
            path(&key)
        );
        let file = deployed("Caddyfile");
        let file = adapt(file, "127.0.0.1:8080", &service.to_string());
        let file = adapt(file, &format!("\n{HOST} {{\n"), &format!("\n{site}"));
        // One test waits until Caddy gives up.
        let file = adapt(file, "lb_try_duration 35s", "lb_try_duration 5s");
        let file = adapt(file, "\n{\n", "\n{\n\tdebug\n\tadmin off\n\tauto_https off\n");
        fs::write(dir.join("Caddyfile"), file).expect("own directory");
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(dir.join("Caddyfile"));
        command.env("HOME", &dir).env("XDG_DATA_HOME", &dir).env("XDG_CONFIG_HOME", &dir);
        Self::start(command, port, certificate, dir)
    }

    fn start(command: Command, port: u16, certificate: PathBuf, dir: PathBuf) -> Self {
        let mut running = Running::start(command, dir.join("said"));
        running.wait_until_it_listens(port);
        Self { running, port, certificate, dir }
    }

    /// curl with the host's name resolved to the proxy, whose certificate alone it trusts.
    fn curl(&self) -> Vec<String> {
        let resolve = format!("{HOST}:{}:127.0.0.1", self.port);
        let certificate = path(&self.certificate);
        let fixed =
            ["-sS", "--noproxy", "*", "--max-time", "50", "--cacert", certificate, "--resolve"];
        fixed.into_iter().chain([resolve.as_str()]).map(str::to_owned).collect()
    }

    fn request(&self, path: &str, arguments: &[&str]) -> String {
        let mut curl = Command::new("curl");
        curl.args(self.curl()).args(arguments).arg(format!("https://{HOST}:{}{path}", self.port));
        done(&mut curl)
    }

    /// A click that gives its status, or what curl said, for many threads.
    fn clicker(&self) -> impl Fn(&str) -> String + Clone + Send + 'static {
        let (curl, port) = (self.curl(), self.port);
        move |path| {
            let mut command = Command::new("curl");
            command.args(&curl).args(["-o", "/dev/null", "-w", "%{http_code}"]);
            command.args(["-d", "List-Unsubscribe=One-Click"]);
            let output = command.arg(format!("https://{HOST}:{port}{path}")).output();
            let output = output.expect("curl runs");
            text(&output.stdout) + &text(&output.stderr)
        }
    }

    /// Everything that the proxy wrote to any file.
    fn written(&self) -> String {
        let files = fs::read_dir(&self.dir).expect("own directory").flatten();
        let files = files.map(|file| file.path()).filter(|path| path.is_file());
        files.map(|file| text(&fs::read(file).unwrap_or_default())).collect()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A directory with a certificate of its own for the host.
fn prepare(place: &Place) -> (PathBuf, PathBuf, PathBuf) {
    let dir = place.path().join("proxy");
    fs::create_dir(&dir).expect("own directory");
    // nginx's worker is another user.
    open_to_all(place.path());
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ]);
    openssl.args(["-days", "2", "-subj", "/CN=leave.example.com"]);
    openssl.args(["-addext", "subjectAltName=DNS:leave.example.com"]);
    done(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
    (dir, certificate, key)
}

/// A click opts out, answers keep their header fields, the service sees who asked and nobody else,
/// a body that is too large is refused by the service, and no token is written down.
fn a_click_passes(place: &Place, service: Service, proxy: Proxy) {
    let link = place.link(LIST, "alice@example.org", "c");
    let reply = proxy.request(&link, &["-i", "-d", "List-Unsubscribe=One-Click"]);
    let reply = reply.to_ascii_lowercase();
    assert!(reply.lines().next().is_some_and(|line| line.contains(" 200")), "{reply}");
    for field in [
        "cache-control: no-store",
        "referrer-policy: no-referrer",
        "x-robots-tag: noindex",
        "x-content-type-options: nosniff",
    ] {
        assert_eq!(reply.matches(field).count(), 1, "{field}: {reply}");
    }
    assert_eq!(place.check(LIST, "alice@example.org"), 1);
    assert_eq!(place.history()[0]["source"], "one_click");

    let spoofed = ["-H", "X-Forwarded-For: 203.0.113.7", "-H", "Forwarded: for=203.0.113.7"];
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let forged = format!("{}x", &link[..link.len() - 1]);
    assert_eq!(proxy.request(&forged, &[&status[..], &spoofed, &["-d", ""]].concat()), "404");
    wait_for("the refusal's line", || service.log().contains("did not open"));
    assert!(service.log().contains(r#""client":"127.0.0.1""#), "{}", service.log());
    assert!(!service.log().contains("203.0.113.7"), "{}", service.log());

    // 16 KiB pass. One octet more passes the proxy too, and the service refuses it.
    let body = place.path().join("body");
    let posted = format!("@{}", body.display());
    for (length, answer) in [(16 * 1024, "200"), (16 * 1024 + 1, "413")] {
        fs::write(&body, vec![b'a'; length]).expect("own directory");
        let arguments = [&status[..], &["--data-binary", &posted]].concat();
        assert_eq!(proxy.request(&link, &arguments), answer, "{length} octets");
    }
    let reply = proxy.request(&link, &["-i", "--data-binary", &posted]).to_ascii_lowercase();
    assert!(reply.contains("x-robots-tag: noindex"), "not the service's answer: {reply}");

    // With the service gone, the fault is one that passes, and is logged without the token.
    service.stop();
    let token = link.trim_start_matches("/u/");
    let unreachable = proxy.request(&link, &["-i", "-d", "List-Unsubscribe=One-Click"]);
    let unreachable = unreachable.to_ascii_lowercase();
    assert!(unreachable.lines().next().is_some_and(|line| line.contains(" 503")), "{unreachable}");
    assert!(unreachable.contains("retry-after: 10"), "{unreachable}");
    let written = proxy.written();
    assert!(!written.contains(token) && !written.contains(&forged[3..]), "{written}");
    place.verify();
}

#[test]
fn a_click_passes_nginx() {
    let Some(nginx) = programs("a_click_passes_nginx", NGINX) else { return };
    let place = place();
    let service = place.serve();
    let proxy = Proxy::nginx(&nginx, &place, service.public);
    let log = proxy.dir.join("optout.log");
    a_click_passes(&place, service, proxy);
    let log = fs::read_to_string(log).expect("an access log");
    assert!(log.lines().any(|line| line.contains("POST 200")), "{log}");
}

#[test]
fn a_click_passes_caddy() {
    let Some(caddy) = programs("a_click_passes_caddy", CADDY) else { return };
    let place = place();
    let service = place.serve();
    let proxy = Proxy::caddy(&caddy, &place, service.public);
    a_click_passes(&place, service, proxy);
}

/// Clicks go on over restarts of the service, on sockets that systemd holds: neither proxy can
/// bridge one by itself for a POST with a body.
fn clicks_outlive_restarts(start: impl FnOnce(&Place, SocketAddr) -> Proxy) {
    let place = place();
    let recipients = recipients(40);
    let links = place.links(LIST, &recipients);
    let sockets = HeldSockets::bind();
    let mut service = sockets.serve(&place);
    let proxy = start(&place, sockets.address());
    let clicks = Clicks::start(&links, proxy.clicker());
    for restart in 1..=2 {
        clicks.go_on(40);
        service = sockets.restart(&place, service);
        wait_for("the next process", || service.log().matches("listening").count() > restart);
    }
    clicks.go_on(40);
    clicks.all_answered();
    assert_opted_out(&place, &recipients);
}

#[test]
fn clicks_through_nginx_outlive_restarts() {
    let test = "clicks_through_nginx_outlive_restarts";
    let Some(nginx) = programs(test, NGINX) else { return };
    clicks_outlive_restarts(|place, to| Proxy::nginx(&nginx, place, to));
}

#[test]
fn clicks_through_caddy_outlive_restarts() {
    let test = "clicks_through_caddy_outlive_restarts";
    let Some(caddy) = programs(test, CADDY) else { return };
    clicks_outlive_restarts(|place, to| Proxy::caddy(&caddy, place, to));
}

/// Caddy tries again until the service listens, though nobody holds the sockets.
#[test]
fn caddy_waits_for_the_service() {
    let Some(caddy) = programs("caddy_waits_for_the_service", CADDY) else { return };
    let place = place();
    let link = place.link(LIST, "alice@example.org", "c");
    let service = place.serve();
    let address = service.public;
    service.stop();
    let proxy = Proxy::caddy(&caddy, &place, address);
    let status = ["-o", "/dev/null", "-w", "%{http_code}"];
    let service = std::thread::scope(|scope| {
        let page = scope.spawn(|| proxy.request(&link, &status));
        // Long enough to be refused more than once.
        std::thread::sleep(Duration::from_millis(700));
        assert!(!page.is_finished(), "it did not wait: {:?}", page.join());
        let listen = format!("public.listen={address}");
        let serve = ["serve", "--set", &listen, "--set", "api.listen=127.0.0.1:0"];
        let service = Service::start(place.command(&serve));
        assert_eq!(page.join().expect("an answer"), "200");
        service
    });
    service.stop();
}

/// A connection that breaks when the request has been read, as when the service is killed:
/// nginx sends the POST once more, with its body.
#[test]
fn nginx_sends_a_click_again_whose_connection_breaks() {
    let test = "nginx_sends_a_click_again_whose_connection_breaks";
    let Some(nginx) = programs(test, NGINX) else { return };
    let place = place();
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = upstream.local_addr().expect("an address");
    let served = std::thread::spawn(move || {
        let mut bodies = Vec::new();
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"] {
            let (stream, _) = upstream.accept().expect("a connection");
            stream.set_read_timeout(Some(crate::common::HANG)).expect("a socket option");
            let mut stream = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).expect("a header") > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            bodies.push(text(&body));
            stream.get_mut().write_all(answer.as_bytes()).expect("the proxy reads");
        }
        bodies
    });
    let proxy = Proxy::nginx(&nginx, &place, address);
    assert_eq!(proxy.clicker()("/u/token"), "200", "{}", proxy.running.log());
    assert_eq!(served.join().expect("it ends"), ["List-Unsubscribe=One-Click"; 2]);
}
