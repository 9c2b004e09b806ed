//! HTTPS beside plain HTTP, beside nginx (handshakes) and behind caddy
//! (requests), all with the same ECDSA key and in one run.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::load::{Report, Until, connect, run_over};
use super::service::Service;
use super::table::Row;
use super::{Bench, TIME, median};

const CONNECTIONS: usize = 64;
/// Handshakes of one round, and rounds of which the median counts.
const HANDSHAKES: usize = 3_000;
const ROUNDS: usize = 5;
/// Threads that shake hands.
const CLIENTS: usize = 4;
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What is shown by all of them, and how it is looked at.
struct Certificate {
    config: Arc<ClientConfig>,
}

impl Certificate {
    fn make(folder: &Path) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("server.crt"), certificate.pem()).expect("written");
        std::fs::write(folder.join("server.key"), key.serialize_pem()).expect("written");
        Self { config: trusting(certificate.der().clone()) }
    }
}

fn trusting(certificate: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
    // Every handshake is a full one.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// The section.
pub fn tls(bench: &mut Bench) -> Vec<Row> {
    eprintln!("HTTPS …");
    let folder = bench.folder("tls");
    let made = Certificate::make(&folder);
    let (certificate, key) = (text(&folder, "server.crt"), text(&folder, "server.key"));
    let settings = [
        ("AGENTD_TLS_MODE", "files"),
        ("AGENTD_TLS_CERT_FILE", certificate.as_str()),
        ("AGENTD_TLS_KEY_FILE", key.as_str()),
    ];
    let plain = Service::start(&folder.join("plain"));
    let https = Service::start_with(&folder.join("https"), &settings);
    let mut rows = Vec::new();
    requests(&plain, &https, &made, &mut rows);
    handshakes(&https, &made, &folder, &mut rows);
    behind_caddy(&plain, &https, &made, &folder, &mut rows);
    rows
}

fn text(folder: &Path, file: &str) -> String {
    // Both others read their configuration from elsewhere.
    std::path::absolute(folder.join(file)).expect("a path").to_string_lossy().into_owned()
}

/// Requests over connections that are kept, one figure after the other and each
/// several times, so that what the machine does meanwhile meets both.
fn requests(plain: &Service, https: &Service, made: &Certificate, rows: &mut Vec<Row>) {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        without.push(ask(plain.address, None).per_second());
        with.push(ask(https.address, Some(made)).per_second());
    }
    let (without, with) = (median(&mut without), median(&mut with));
    rows.push(Row::of("plain HTTP, GET /health, 64 kept connections, requests/s").value(without));
    rows.push(Row::of("HTTPS, the same, requests/s").value(with));
    let share = with / without * 100.0;
    rows.push(Row::of("HTTPS in percent of plain HTTP").value(share).least(80.0));
}

/// Loads an address for a while, over TLS where there is a certificate.
fn ask(address: SocketAddr, tls: Option<&Certificate>) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(connect(address).await);
        }
        let Some(tls) = tls else {
            return run_over(streams, REQUEST.to_vec(), Until::Time(TIME), None).await;
        };
        let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
        let mut encrypted = Vec::new();
        for stream in streams {
            encrypted.push(connector.connect(name(), stream).await.expect("a handshake"));
        }
        run_over(encrypted, REQUEST.to_vec(), Until::Time(TIME), None).await
    })
}

/// Processor time of the server for one full handshake, its connection included.
fn handshakes(https: &Service, made: &Certificate, folder: &Path, rows: &mut Vec<Row>) {
    let nginx = Other::nginx(folder);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(shake(https.address, https.pid(), made));
        if let Some(nginx) = &nginx {
            theirs.push(shake(nginx.address, nginx.child.id(), made));
        }
    }
    let row = Row::of("processor time of one full handshake (TLS 1.3, X25519, P-256), µs").value(median(&mut ours));
    if nginx.is_none() {
        rows.push(row.note("nginx is not installed: nothing to compare with"));
        return;
    }
    let theirs = median(&mut theirs);
    rows.push(row.most(theirs).note("the goal is nginx's"));
    rows.push(Row::of("the same of nginx, same key, µs").value(theirs));
}

/// Microseconds of processor time that a process and its children took for each
/// handshake of a round.
fn shake(address: SocketAddr, pid: u32, made: &Certificate) -> f64 {
    let before = processor_time(pid);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let config = made.config.clone();
            std::thread::spawn(move || (0..HANDSHAKES / CLIENTS).for_each(|_| shake_once(address, &config)))
        })
        .collect();
    for client in clients {
        client.join().expect("handshakes");
    }
    (processor_time(pid) - before) / HANDSHAKES as f64 * 1e6
}

fn shake_once(address: SocketAddr, config: &Arc<ClientConfig>) {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_nodelay(true).expect("nodelay");
    let mut session = ClientConnection::new(config.clone(), name()).expect("a session");
    while session.is_handshaking() {
        session.complete_io(&mut stream).expect("a handshake");
    }
    session.send_close_notify();
    while session.wants_write() {
        session.write_tls(&mut stream).expect("sent");
    }
    // The other side has done its part when it has hung up too.
    stream.shutdown(std::net::Shutdown::Write).expect("the end");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

/// Seconds that a process and its children have had.
fn processor_time(pid: u32) -> f64 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|child| child.parse().ok()).chain([pid]);
    let ticks = pids.map(|pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let field = |place: usize| fields.split(' ').nth(place).and_then(|text| text.parse::<f64>().ok());
        field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)
    });
    ticks.sum::<f64>() / rustix::param::clock_ticks_per_second() as f64
}

/// The same requests to agentd itself, and to it through caddy.
fn behind_caddy(plain: &Service, https: &Service, made: &Certificate, folder: &Path, rows: &mut Vec<Row>) {
    let Some(caddy) = Other::caddy(folder, plain.address) else {
        rows.push(Row::of("HTTPS by caddy before plain HTTP, requests/s").note("caddy is not installed"));
        return;
    };
    let (mut ours, mut theirs) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..3 {
        for (figures, address) in [(&mut ours, https.address), (&mut theirs, caddy.address)] {
            let report = ask(address, Some(made));
            figures.0.push(report.per_second());
            figures.1.push(report.quantile(0.99).as_secs_f64());
        }
    }
    let (rate, theirs_rate) = (median(&mut ours.0), median(&mut theirs.0));
    let (p99, theirs_p99) = (median(&mut ours.1), median(&mut theirs.1));
    let seconds = Duration::from_secs_f64;
    rows.push(Row::of("HTTPS beside caddy, requests/s").value(rate).least(theirs_rate).note("the goal is caddy's"));
    rows.push(Row::of("the same through caddy, requests/s").value(theirs_rate));
    rows.push(Row::of("HTTPS beside caddy, p99").time(seconds(p99)).within(seconds(theirs_p99)));
    rows.push(Row::of("the same through caddy, p99").time(seconds(theirs_p99)));
}

/// Somebody else's server.
struct Other {
    child: Child,
    address: SocketAddr,
}

impl Other {
    fn nginx(folder: &Path) -> Option<Self> {
        let here = std::path::absolute(folder).expect("a path");
        let here = here.display();
        let port = free_port();
        let text = format!(
            "daemon off; worker_processes auto; pid {here}/nginx.pid; error_log {here}/nginx.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; client_body_temp_path {here}/nginx-body; proxy_temp_path {here}/nginx-proxy;\n\
             fastcgi_temp_path {here}/nginx-fastcgi; uwsgi_temp_path {here}/nginx-uwsgi; scgi_temp_path {here}/nginx-scgi;\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {here}/server.crt;\n\
             ssl_certificate_key {here}/server.key; location / {{ return 200 ok; }} }} }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), text).expect("written");
        let mut command = Command::new("nginx");
        command.args(["-c", &format!("{here}/nginx.conf"), "-e", &format!("{here}/nginx.log")]);
        Self::start(command, port)
    }

    fn caddy(folder: &Path, to: SocketAddr) -> Option<Self> {
        let here = std::path::absolute(folder).expect("a path");
        let here = here.display();
        let port = free_port();
        let text = format!(
            "{{\n admin off\n auto_https off\n}}\nhttps://localhost:{port} {{\n bind 127.0.0.1\n \
             tls {here}/server.crt {here}/server.key\n reverse_proxy {to}\n}}\n"
        );
        std::fs::write(folder.join("Caddyfile"), text).expect("written");
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config", &format!("{here}/Caddyfile")]);
        command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).env("HOME", folder);
        Self::start(command, port)
    }

    /// `None` where there is no such program.
    fn start(mut command: Command, port: u16) -> Option<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let start = Instant::now();
        while TcpStream::connect(address).and_then(|mut stream| stream.write_all(b"")).is_err() {
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "{command:?} has ended: {ended:?}");
            assert!(start.elapsed() < Duration::from_secs(20), "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { child, address })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Its workers must end too, which a kill would leave behind.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}
