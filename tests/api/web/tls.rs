//! Certificates that prove nothing.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::dns::{Dns, Record};
use super::*;

pub type Authority = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

pub fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("parameters")
}

/// A site with this certificate, signed by the authority or by itself.
fn site(params: &CertificateParams, by: Option<&Authority>) -> Site {
    let config = config(params, by);
    Site::tls(config, |_, wire| reply(wire, "200 OK", &[("Content-Type", "text/plain")], b"encrypted"))
}

/// How a server with such a certificate speaks TLS.
pub fn config(params: &CertificateParams, by: Option<&Authority>) -> ServerConfig {
    let key = KeyPair::generate().expect("a key");
    let certificate = match by {
        Some(authority) => params.signed_by(&key, authority).expect("a certificate"),
        None => params.self_signed(&key).expect("a certificate"),
    };
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
    config.with_no_client_auth().with_single_cert(chain, key).expect("a certificate")
}

#[test]
fn only_who_proves_to_be_the_host_is_talked_to() {
    let (known, unknown) = (authority(), authority());
    let mut expired = params("good.test");
    expired.not_after = date_time_ymd(2020, 1, 1);
    let mut early = params("good.test");
    early.not_before = date_time_ymd(4000, 1, 1);
    let good = site(&params("good.test"), Some(&known));
    let by_address = site(&params("127.0.0.1"), Some(&known));
    let bad = [
        site(&params("other.test"), Some(&known)),
        site(&expired, Some(&known)),
        site(&early, Some(&known)),
        site(&params("good.test"), Some(&unknown)),
        site(&params("good.test"), None),
    ];
    let dns = Dns::always(vec![Record::A("127.0.0.1")]);
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("authority.pem");
    std::fs::write(&file, known.pem()).expect("written");
    let all: Vec<_> = bad.iter().chain([&good, &by_address]).collect();
    let setup = reaching(&all).env("AGENTD_OUTBOUND_NAMESERVERS", dns.address());
    let (_server, client) = start(setup.clone().env("AGENTD_OUTBOUND_EXTRA_CA", &file.to_string_lossy()));
    assert_eq!(fetched(&client, &good.url_of("good.test", "/"))["content"], "encrypted");
    assert_eq!(fetched(&client, &by_address.url("/"))["content"], "encrypted");
    assert_failed(&client, &good.url("/"), "tls_error", false);
    for site in &bad {
        assert_failed(&client, &site.url_of("good.test", "/"), "tls_error", false);
        assert_eq!(site.requests().len(), 0, "nothing is told to who proves nothing");
    }
    let (_server, client) = start(setup);
    assert_failed(&client, &good.url_of("good.test", "/"), "tls_error", false);
}

#[test]
fn what_speaks_no_tls_is_told_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (_server, client) = start(Setup::real().env("AGENTD_OUTBOUND_ALLOW", &address));
    assert_failed(&client, &format!("https://{address}/"), "tls_error", false);
}

#[test]
fn a_file_without_authorities_keeps_the_service_from_starting() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let file = folder.path().join("empty.pem");
    std::fs::write(&file, "nothing").expect("written");
    let (code, said) =
        Setup::real().env("AGENTD_OUTBOUND_EXTRA_CA", &file.to_string_lossy()).refused(&folder.path().join("data"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("outbound.extra_ca"), "{said}");
}
