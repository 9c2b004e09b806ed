//! Files of other kinds than PEM of today, made by OpenSSL, and keys of all
//! kinds.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Pair, connect};
use crate::support::server::run;
use crate::support::tls::Made;

/// Runs OpenSSL in a folder.
#[track_caller]
fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(arguments.split(' ')).stdin(Stdio::null());
    let output = command.output().expect("openssl is needed for this test: apt install openssl");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pair whose key was made so, signed by itself.
fn pair_of(key: &str, more: &str) -> Pair {
    let pair = Pair { folder: tempfile::TempDir::new().expect("a folder") };
    let folder = pair.folder.path();
    openssl(folder, &format!("genpkey -out server.key {key}"));
    let signed = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -days 30";
    openssl(folder, &format!("req -x509 -new -key server.key -out server.crt {signed}{more}"));
    pair
}

/// What `agentd check` says.
fn check(pair: &Pair) -> (i32, String) {
    run(&mut pair.setup().command(&["check"]))
}

#[test]
fn keys_of_usual_kinds_are_served() {
    for (key, warning) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", ""),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", ""),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "P-521"),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", ""),
        ("-algorithm ED25519", "Ed25519"),
    ] {
        let pair = pair_of(key, "");
        let (code, said) = check(&pair);
        assert_eq!(code, 0, "{key}: {said}");
        assert!(said.contains(warning) && (warning.is_empty() != said.contains("warning")), "{key}: {said}");
        let server = pair.setup().start();
        assert_eq!(connect(&server).chain().len(), 1, "{key}");
    }
}

#[test]
fn keys_that_tls_cannot_use_are_named() {
    for (key, named) in [
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", "RSA with 1024 bits"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "ECDSA on secp256k1"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-224", "ECDSA on P-224"),
        ("-algorithm ED448", "Ed448"),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "RSASSA-PSS"),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", "explicit parameters"),
    ] {
        let (code, said) = check(&pair_of(key, ""));
        assert_eq!(code, 78, "{key}: {said}");
        assert!(said.contains(named), "{key}: {said}");
    }
}

#[test]
fn weak_signatures_are_a_warning() {
    let pair = pair_of("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "");
    let folder = pair.folder.path();
    // Signed by another, by SHA-1.
    openssl(folder, "genpkey -out root.key -algorithm RSA -pkeyopt rsa_keygen_bits:2048");
    openssl(folder, "req -x509 -new -key root.key -out root.crt -subj /CN=root -days 30");
    openssl(folder, "req -new -key server.key -out server.csr -subj /CN=localhost");
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("written");
    let by = "-CA root.crt -CAkey root.key -CAcreateserial -days 30 -extfile names";
    openssl(folder, &format!("x509 -req -in server.csr -out server.crt -sha1 {by}"));
    let both = ["server.crt", "root.crt"].map(|name| std::fs::read_to_string(folder.join(name)).expect("a file"));
    std::fs::write(pair.certificate(), both.concat()).expect("written");
    let (code, said) = check(&pair);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("signed with SHA-1"), "{said}");
}

#[test]
fn what_is_not_pem_is_named_with_what_converts_it() {
    let pair = Pair::of(&Made::of(&["localhost"]));
    let folder = pair.folder.path().to_owned();
    for arguments in [
        "x509 -in server.crt -outform der -out cert.der",
        "pkey -in server.key -outform der -out key.der",
        "pkcs12 -export -in server.crt -inkey server.key -out both.p12 -passout pass:x",
        "crl2pkcs7 -nocrl -certfile server.crt -out both.p7b",
        "crl2pkcs7 -nocrl -certfile server.crt -outform der -out der.p7b",
        "pkey -in server.key -aes256 -passout pass:x -out locked.pem",
        "pkcs8 -topk8 -in server.key -outform der -out locked.der -passout pass:x",
        "ec -in server.key -aes256 -passout pass:x -out old-locked.pem",
        "req -new -key server.key -subj /CN=x -out request.pem",
        "pkey -in server.key -pubout -out public.pem",
    ] {
        openssl(&folder, arguments);
    }
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    for (variable, name, said) in [
        ("AGENTD_TLS_CERT_FILE", "cert.der", "a certificate in DER"),
        ("AGENTD_TLS_CERT_FILE", "both.p12", "a PKCS#12 bundle"),
        ("AGENTD_TLS_CERT_FILE", "both.p7b", "a PKCS#7 bundle"),
        ("AGENTD_TLS_CERT_FILE", "der.p7b", "a PKCS#7 bundle"),
        ("AGENTD_TLS_CERT_FILE", "request.pem", "a signing request"),
        ("AGENTD_TLS_CERT_FILE", "server.key", "holds a private key"),
        ("AGENTD_TLS_CERT_FILE", "key.der", "a private key in DER"),
        ("AGENTD_TLS_KEY_FILE", "key.der", "a private key in DER"),
        ("AGENTD_TLS_KEY_FILE", "both.p12", "openssl pkcs12 -nocerts"),
        ("AGENTD_TLS_KEY_FILE", "locked.pem", "is encrypted"),
        ("AGENTD_TLS_KEY_FILE", "old-locked.pem", "is encrypted"),
        ("AGENTD_TLS_KEY_FILE", "locked.der", "an encrypted private key in DER"),
        ("AGENTD_TLS_KEY_FILE", "public.pem", "a public key"),
        ("AGENTD_TLS_KEY_FILE", "server.crt", "holds a certificate"),
    ] {
        let (code, text) = run(&mut pair.setup().env(variable, &at(name)).command(&["check"]));
        assert_eq!(code, 78, "{name}: {text}");
        assert!(text.contains(said) && text.contains(name), "{name}: {text}");
    }
}
