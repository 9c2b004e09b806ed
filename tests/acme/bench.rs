//! The bench itself, driven by the ACME library alone: what the other tests rely
//! on is there.

use std::pin::Pin;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};

use crate::support::PATIENCE;
use crate::support::acme::{Bench, Fault, Kind, Options};
use crate::support::tls::{Dial, serial};

/// The library's way to a bench.
struct Http(String);

impl HttpClient for Http {
    fn request(
        &self,
        request: hyper::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let dial = Dial::anybody(&self.0);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|error| Error::Other(error.into()))?.to_bytes();
            let mut tls = dial.connect().map_err(|error| Error::Other(error.into()))?;
            let host = parts.uri.authority().expect("a host");
            let mut text = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", parts.method, parts.uri.path());
            for (name, value) in &parts.headers {
                text += &[name.as_str(), ": ", value.to_str().expect("text"), "\r\n"].concat();
            }
            tls.send(format!("{text}Content-Length: {}\r\n\r\n{}", body.len(), String::from_utf8_lossy(&body)));
            let answer = tls.read_to_end();
            let (head, body) = answer.split_once("\r\n\r\n").ok_or(Error::Str("no answer"))?;
            let mut lines = head.lines();
            let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
            let mut response = hyper::Response::builder().status(status);
            for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
                response = response.header(name, value);
            }
            Ok(BytesResponse::from(response.body(Full::new(Bytes::from(body.to_owned()))).expect("a response")))
        })
    }
}

fn run<T>(what: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(what)
}

/// The library tries thrice where its nonce is refused, which is too few here.
async fn decided<T>(mut request: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match request().await {
            Err(Error::Api(problem)) if problem.r#type.as_deref().is_some_and(|it| it.ends_with("badNonce")) => {}
            other => return other,
        }
    }
}

async fn again<T>(request: impl AsyncFnMut() -> Result<T, Error>) -> T {
    decided(request).await.unwrap_or_else(|error| panic!("{error}"))
}

async fn account(bench: &Bench) -> Account {
    let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    again(async || {
        let http = Box::new(Http(bench.proxy.address().to_owned()));
        Account::builder_with_http(http).create(&new, bench.proxy.directory(), None).await
    })
    .await
    .0
}

/// Sets the records that are asked for. A proof may fail so soon that the answer
/// says so.
async fn prove(bench: &Bench, order: &mut Order, name: &str) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        let mut challenge = authorization.challenge(ChallengeType::Dns01).expect("dns-01");
        let value = challenge.key_authorization().dns_value();
        let hook = std::process::Command::new(bench.dns_hook())
            .args(["set", &format!("_acme-challenge.{name}"), &value])
            .status()
            .expect("the hook runs");
        assert!(hook.success());
        decided(async || challenge.set_ready().await).await?;
    }
    Ok(())
}

/// Orders for a name whose proof is answered by `dns-01`.
async fn order(bench: &Bench, account: &Account, name: &str) -> (Order, Result<OrderStatus, Error>) {
    let names = [Identifier::Dns(name.into())];
    let mut order = again(async || account.new_order(&NewOrder::new(&names)).await).await;
    if let Err(error) = prove(bench, &mut order, name).await {
        return (order, Err(error));
    }
    let policy = RetryPolicy::new().initial_delay(std::time::Duration::from_millis(20)).timeout(PATIENCE);
    let status = order.poll_ready(&policy).await;
    (order, status)
}

#[test]
fn pebble_issues_and_tells_what_it_issued() {
    let bench = Bench::with(&Options { nonce_reject: 5, ari: true, profiles: true, ..Options::default() });
    run(async {
        let account = account(&bench).await;
        let (mut order, status) = order(&bench, &account, "a.example.test").await;
        assert!(matches!(status, Ok(OrderStatus::Ready)), "{status:?}");
        again(async || order.finalize().await).await;
        let policy = RetryPolicy::new().initial_delay(std::time::Duration::from_millis(20)).timeout(PATIENCE);
        let chain = order.poll_certificate(&policy).await.expect("a certificate");
        let leaf = rustls_pem(&chain);
        assert_eq!(bench.pebble.certificate(&serial(&leaf))["Status"], "Valid");
    });
    assert!(bench.pebble.root().contains("BEGIN CERTIFICATE"));
    assert_eq!(bench.proxy.orders().len(), 1);
    assert_eq!(bench.proxy.orders()[0].payload["identifiers"][0]["value"], "a.example.test");
    assert_eq!(bench.proxy.accounts().len(), 1);
    let directory = Dial::trusting(bench.proxy.address(), bench.ca_file()).connect().map(|mut tls| {
        tls.send("GET /dir HTTP/1.1\r\nHost: x\r\n\r\n");
        tls.read_to_end()
    });
    let directory = directory.expect("the proxy's certificate is the authority's");
    assert!(directory.contains("renewalInfo") && directory.contains("shortlived"), "{directory}");
}

#[test]
fn validations_fail_by_chance_and_for_broken_names() {
    let bench = Bench::with(&Options { nonce_reject: 0, fail_one_in: 2, ..Options::default() });
    run(async {
        let account = account(&bench).await;
        let mut outcomes = Vec::new();
        for number in 0..8 {
            outcomes.push(order(&bench, &account, &format!("n{number}.example.test")).await.1);
        }
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!((1..8).contains(&failed), "{outcomes:?}");
        assert_eq!(bench.proxy.failed_by_chance(), failed);
    });
}

#[test]
fn the_proxy_fails_as_told_and_pebble_forgets() {
    let bench = Bench::new();
    run(async {
        let account = account(&bench).await;
        let names = [Identifier::Dns("a.example.test".into())];
        bench.proxy.fail(Kind::NewOrder, 1, Fault::Problem(429, "rateLimited", Some(60)));
        let refused = account.new_order(&NewOrder::new(&names)).await.err().expect("refused");
        assert!(refused.to_string().contains("rateLimited"), "{refused}");
        bench.proxy.set_down(true);
        assert!(account.new_order(&NewOrder::new(&names)).await.is_err());
        bench.proxy.set_down(false);
        again(async || account.new_order(&NewOrder::new(&names)).await).await;
    });
}

fn rustls_pem(chain: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(chain.as_bytes()).expect("a certificate").to_vec()
}
