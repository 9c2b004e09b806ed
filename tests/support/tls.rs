//! TLS as the tests speak it: a blocking connection that shows which
//! certificate, version and protocol it got, and takes any bytes.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore, SignatureScheme,
    StreamOwned, SupportedProtocolVersion,
};

use super::PATIENCE;
use super::raw::message;

/// The one cryptographic library.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// How a connection is to be made. Sessions are not resumed unless asked for.
#[derive(Clone)]
pub struct Dial {
    address: String,
    name: String,
    config: ClientConfig,
}

impl Dial {
    /// Trusts whatever is shown.
    pub fn anybody(address: &str) -> Self {
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
            .with_no_client_auth();
        Self::with(address, config)
    }

    /// Trusts the certificates of a PEM file, and no others.
    pub fn trusting(address: &str, file: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).expect("a file of certificates") {
            roots.add(certificate.expect("a certificate")).expect("a certificate that can be trusted");
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self::with(address, config)
    }

    fn with(address: &str, mut config: ClientConfig) -> Self {
        config.resumption = Resumption::disabled();
        let name = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']).to_owned();
        Self { address: address.to_owned(), name, config }
    }

    /// Asks for this name; without it, for the address.
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Offers these protocols (ALPN).
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Speaks one version only.
    pub fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        let old = self.config;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
            .with_no_client_auth();
        config.alpn_protocols = old.alpn_protocols;
        config.resumption = old.resumption;
        self.config = config;
        self
    }

    /// Resumes sessions; clones share them.
    pub fn resuming(mut self) -> Self {
        self.config.resumption = Resumption::in_memory_sessions(16);
        self
    }

    /// Connects and shakes hands.
    pub fn connect(&self) -> io::Result<Tls> {
        let stream = TcpStream::connect(&self.address)?;
        self.over(stream)
    }

    /// Shakes hands over a connection that is there.
    pub fn over(&self, stream: TcpStream) -> io::Result<Tls> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.name.clone()).expect("a name");
        let session = ClientConnection::new(Arc::new(self.config.clone()), name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Tls(tls))
    }
}

/// A connection that has shaken hands.
pub struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// The certificate that was shown.
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().expect("a certificate").first().expect("one").clone().into_owned()
    }

    /// All certificates that were sent, the server's own first.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let sent = self.0.conn.peer_certificates().expect("certificates");
        sent.iter().map(|certificate| certificate.clone().into_owned()).collect()
    }

    /// Its serial number, in hexadecimal.
    pub fn serial(&self) -> String {
        serial(&self.certificate())
    }

    /// The protocol that was agreed upon (ALPN).
    pub fn protocol(&self) -> Option<String> {
        self.0.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned())
    }

    pub fn version(&self) -> ProtocolVersion {
        self.0.conn.protocol_version().expect("a version")
    }

    /// Whether an earlier session goes on.
    pub fn resumed(&self) -> bool {
        self.0.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Sends; the other side may hang up meanwhile, whether it has is what the
    /// answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).and_then(|()| self.0.flush()).is_ok()
    }

    /// What comes next; nothing once the other side has hung up.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self.0.read(buffer) {
            Ok(count) => count,
            Err(error) if hung_up(&error) => 0,
            Err(error) => panic!("the other side neither answers nor hangs up: {error}"),
        }
    }

    /// Everything until the other side hangs up.
    pub fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read(&mut buffer) {
                0 => return String::from_utf8_lossy(&read).into_owned(),
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Everything up to some text, which must come.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        let mut buffer = [0; 4096];
        while !read.contains(text) {
            let count = self.read(&mut buffer);
            assert!(count > 0, "it hung up after {read:?}");
            read.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        read
    }

    /// An exchange that leaves the connection open: the head and the body of
    /// the answer, which must say how long it is; `None` when there is none.
    pub fn exchange(&mut self, request: &str) -> Option<(String, String)> {
        if !self.send(request) {
            return None;
        }
        message(|buffer| self.read(buffer))
    }

    /// The connection below.
    pub fn socket(&self) -> &TcpStream {
        &self.0.sock
    }
}

fn hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// The serial number of a certificate, in hexadecimal.
pub fn serial(certificate: &[u8]) -> String {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).expect("a certificate");
    read.raw_serial_as_string().replace(':', "")
}

/// A certificate of the tests, signed by itself.
pub struct Made {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// As [`Tls::serial`] tells it.
    pub serial: String,
}

impl Made {
    /// For these names and addresses, valid for a long time.
    pub fn of(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    /// The same, changed before it is signed.
    pub fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let serial = serial(certificate.der());
        Self { certificate: certificate.pem(), key: key.serialize_pem(), serial }
    }

    /// Writes both files, each in one step.
    pub fn write(&self, certificate: &Path, key: &Path) {
        replace(key, &self.key);
        replace(certificate, &self.certificate);
    }
}

/// Replaces a file in one step.
pub fn replace(path: &Path, text: &str) {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, text).expect("written");
    std::fs::rename(partial, path).expect("renamed");
}

/// Believes everybody.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
