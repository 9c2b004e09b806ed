//! Targets that are full, slow, gone in the middle, or do not know us: what is
//! said, what is tried again, and that nothing half sent can be seen.

use std::time::Duration;

use agentd::config::{Origin, Secret};
use agentd::s3::Error;

use super::support::eventually;
use super::support::s3::{Kind, SECRET_KEY, Trap};
use super::{Bench, PIECE, made_up};

/// Three parts and a bit.
const LARGE: usize = 3 * PIECE + 1;

fn of_part(kind: Kind) -> bool {
    matches!(kind, Kind::Part(_))
}

/// No error tells a secret or a signed URL.
#[track_caller]
fn said(error: &Error) -> String {
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    for told in [&text, &debug] {
        assert!(!told.contains(SECRET_KEY) && !told.contains("X-Amz-") && !told.contains("http://"), "{told}");
    }
    text
}

/// Sends a large file, which must fail and leave nothing.
async fn refused(bench: &Bench) -> Error {
    let error = bench.bucket().put("a.tar", &bench.file(LARGE)).await.expect_err("it cannot work");
    assert!(bench.stored("a.tar").is_none(), "something half sent is visible: {error}");
    assert_eq!(bench.unfinished(), 0, "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_fails_is_sent_again() {
    let bench = Bench::new("part-again");
    let third = |kind| kind == Kind::Part(3);
    bench.proxy.fail(1, Trap::Answer(500, "InternalError", ""), third);
    bench.proxy.fail(1, Trap::Answer(503, "SlowDown", "Retry-After: 1\r\n"), third);
    bench.proxy.fail(1, Trap::CutRequest(100_000), |kind| kind == Kind::Part(2));
    bench.proxy.fail(1, Trap::LoseAnswer, |kind| kind == Kind::Part(1));
    bench.bucket().put("a.tar", &bench.file(LARGE)).await.expect("sent after all");
    assert!(bench.stored("a.tar").expect("it is there") == made_up(LARGE));
    let times = |part| bench.proxy.count(Kind::Part(part));
    assert_eq!([times(1), times(2), times(3), times(4)], [2, 2, 3, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_whose_answer_is_lost_or_is_an_error_inside_is_asked_again() {
    let bench = Bench::new("complete-again");
    bench.proxy.fail(1, Trap::LoseAnswer, |kind| kind == Kind::Complete);
    bench.bucket().put("lost.tar", &bench.file(LARGE)).await.expect("sent after all");
    assert!(bench.stored("lost.tar").expect("it is there") == made_up(LARGE));
    let bench = Bench::new("error-inside");
    bench.proxy.fail(1, Trap::Body("<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>"), |kind| {
        kind == Kind::Complete
    });
    bench.bucket().put("inside.tar", &bench.file(LARGE)).await.expect("sent after all");
    assert!(bench.stored("inside.tar").expect("it is there") == made_up(LARGE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_full_is_told_so_at_once() {
    for (bucket, trap) in [
        ("full-507", Trap::Answer(507, "", "")),
        ("full-minio", Trap::Answer(507, "XMinioStorageFull", "")),
        ("full-quota", Trap::Answer(403, "QuotaExceeded", "")),
    ] {
        let bench = Bench::new(bucket);
        bench.proxy.fail(9, trap, |kind| kind == Kind::Part(2));
        let error = refused(&bench).await;
        assert!(said(&error).contains("it is full"), "{error}");
        assert!(!error.is_temporary());
        assert_eq!(bench.proxy.count(Kind::Part(2)), 1, "nothing is gained by asking again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_before_it_has_read_the_body_is_understood_or_lost() {
    let bench = Bench::new("full-early");
    bench.proxy.fail(99, Trap::Early(507, "QuotaExceeded"), of_part);
    let error = refused(&bench).await;
    assert!(matches!(error, Error::Full(_) | Error::Lost), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_hangs_is_left_after_a_while() {
    let mut bench = Bench::new("hangs");
    bench.section.patience = Duration::from_secs(2);
    bench.proxy.fail(99, Trap::Hang, |kind| kind == Kind::Part(2));
    let error = refused(&bench).await;
    assert!(said(&error).contains("it is too slow: waiting for anything to be sent or received"), "{error}");
    assert!(error.is_temporary());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_slow_and_moves_is_waited_for() {
    let mut bench = Bench::new("slow");
    bench.section.patience = Duration::from_secs(5);
    bench.bucket().put("a.tar", &bench.file(LARGE)).await.expect("sent");
    // Ten of them are longer than that.
    let pause = Duration::from_millis(700);
    bench.proxy.fail(1, Trap::Slow(pause), |kind| kind == Kind::Get(0));
    bench.proxy.fail(1, Trap::HangAnswer(500_000), |kind| kind == Kind::Get(PIECE as u64));
    let back = bench.path("back");
    assert_eq!(bench.bucket().get("a.tar", &back).await.expect("fetched after all"), LARGE as u64);
    assert!(std::fs::read(&back).expect("a file") == made_up(LARGE));
    let times = |at: usize| bench.proxy.count(Kind::Get(at as u64));
    assert_eq!([times(0), times(PIECE), times(2 * PIECE)], [1, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_in_the_middle_leaves_nothing_half_sent() {
    let bench = Bench::new("gone-sending");
    bench.proxy.fail(99, Trap::CutRequest(1_000_000), |kind| matches!(kind, Kind::Part(2 | 3)));
    let error = refused(&bench).await;
    assert!(said(&error).contains("the connection ended before everything was sent or received"), "{error}");
    assert!(error.is_temporary());
    let bench = Bench::new("gone-small");
    bench.proxy.fail(99, Trap::CutRequest(50_000), |kind| kind == Kind::Put);
    let error = bench.bucket().put("small.tar", &bench.file(100_000)).await.expect_err("it is cut");
    assert!(bench.stored("small.tar").is_none(), "half of it is visible: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_away_for_good_is_told_so_and_leaves_no_file() {
    let bench = Bench::new("gone-fetching");
    let bucket = bench.bucket();
    bucket.put("a.tar", &bench.file(LARGE)).await.expect("sent");
    bench.proxy.fail(99, Trap::CutAnswer(1_000_000), |kind| kind == Kind::Get(PIECE as u64));
    let into = bench.path("into");
    let error = bucket.get("a.tar", &into).await.expect_err("it is cut");
    assert!(matches!(error, Error::Lost), "{error}");
    assert!(!into.exists(), "half a file is left");
    assert_eq!(bench.proxy.count(Kind::Get(0)), 1, "what has come is not fetched again");
    bench.proxy.set_down(true);
    let error = bucket.list().await.expect_err("it is gone");
    assert!(said(&error).contains("the connection ended") && error.is_temporary(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_or_there_is_no_such_host_is_told() {
    let mut bench = Bench::new("nobody");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    bench.section.endpoint = format!("http://127.0.0.1:{port}").parse().expect("a URL");
    let error = bench.bucket().list().await.expect_err("nobody listens");
    assert!(
        said(&error).contains("it cannot be reached: no connection to 127.0.0.1") && error.is_temporary(),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_apart() {
    let mut bench = Bench::new("credentials");
    let right = bench.section.clone();
    let expect = async |bench: &Bench, text: &str| {
        let (seen, bucket) = (bench.proxy.seen().len(), bench.bucket());
        for error in [
            bucket.list().await.expect_err("refused"),
            bucket.get("a.tar", &bench.path("into")).await.expect_err("refused"),
            bucket.remove("a.tar").await.expect_err("refused"),
            refused(bench).await,
        ] {
            assert!(said(&error).contains(text) && !error.is_temporary(), "{error}");
        }
        assert_eq!(bench.proxy.seen().len() - seen, 4, "asking again would lock an account");
    };
    bench.section.secret_key = Secret::Text("another-secret".into(), Origin::Default);
    expect(&bench, "(403 SignatureDoesNotMatch): backup.s3_secret_key is not the secret").await;
    bench.section.access_key = "somebody-else".into();
    expect(&bench, "(403 InvalidAccessKeyId): the server knows no such backup.s3_access_key").await;
    bench.section = right.clone();
    bench.section.region = "us-east-1".into();
    expect(&bench, "the bucket is in another region, eu-test-1: set backup.s3_region").await;
    bench.section = right;
    bench.proxy.fail(4, Trap::Answer(403, "AccessDenied", ""), |_| true);
    expect(&bench, "the access key may not do this (403 AccessDenied)").await;
    let ahead = "Date: Sat, 21 Nov 2020 12:00:00 GMT\r\n";
    bench.proxy.fail(4, Trap::Answer(403, "RequestTimeTooSkewed", ahead), |_| true);
    expect(&bench, "s ahead: set this machine's clock").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let mut bench = Bench::new("not-there");
    let into = bench.path("into");
    let error = bench.bucket().get("a.tar", &into).await.expect_err("no object");
    assert!(matches!(&error, Error::NoObject(name) if name == "a.tar") && !into.exists(), "{error}");
    let error = bench.bucket().put("a.tar", &bench.path("no-file")).await.expect_err("no file");
    assert!(error.to_string().contains("no-file: No such file"), "{error}");
    let error = bench.bucket().get("a.tar", &bench.path("no/folder")).await.expect_err("no object");
    assert!(matches!(error, Error::NoObject(_)), "{error}");
    bench.section.bucket = "no-such-bucket".into();
    let bucket = bench.bucket();
    for error in [
        bucket.list().await.expect_err("no bucket"),
        bucket.get("a.tar", &into).await.expect_err("no bucket"),
        bucket.put("a.tar", &bench.file(1)).await.expect_err("no bucket"),
        bucket.put("a.tar", &bench.file(LARGE)).await.expect_err("no bucket"),
    ] {
        assert!(said(&error).contains("there is no such bucket (404 NoSuchBucket)"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_while_it_is_read_is_not_mixed() {
    let bench = Bench::new("replaced-meanwhile");
    let bucket = bench.bucket();
    bucket.put("a.tar", &bench.file(LARGE)).await.expect("sent");
    bench.proxy.fail(1, Trap::Hang, |kind| kind == Kind::Get(PIECE as u64));
    let (reading, into) = (bucket.clone(), bench.path("into"));
    let reading = tokio::spawn(async move { reading.get("a.tar", &into).await });
    bench.proxy.wait_for(Kind::Get(PIECE as u64), 1);
    let other = bench.path("other");
    std::fs::write(&other, vec![7; LARGE]).expect("written");
    bucket.put("a.tar", &other).await.expect("sent");
    let error = reading.await.expect("a task").expect_err("it is another one now");
    assert!(said(&error).contains("a.tar was replaced while it was read"), "{error}");
    assert!(!bench.path("into").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_is_forgotten_there() {
    let bench = Bench::new("dropped");
    bench.proxy.fail(9, Trap::Hang, |kind| kind == Kind::Part(2));
    let (bucket, file) = (bench.bucket(), bench.file(LARGE));
    let sending = tokio::spawn(async move { bucket.put("a.tar", &file).await });
    bench.proxy.wait_for(Kind::Part(2), 1);
    assert_eq!(bench.unfinished(), 1);
    sending.abort();
    eventually("the parts are forgotten", || (bench.unfinished() == 0).then_some(()));
    assert!(bench.stored("a.tar").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_s3_is_called_strange() {
    let bench = Bench::new("strange");
    let page = "<html><body>Welcome to nginx!</body></html>";
    bench.proxy.fail(99, Trap::Body(page), |kind| matches!(kind, Kind::List | Kind::Begin | Kind::Look));
    let bucket = bench.bucket();
    for error in [
        bucket.list().await.expect_err("no list"),
        bucket.put("a.tar", &bench.file(LARGE)).await.expect_err("no upload"),
        bucket.get("a.tar", &bench.path("into")).await.expect_err("no object"),
    ] {
        assert!(said(&error).contains("as no S3-compatible server does") && !error.is_temporary(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_in_another_size_is_taken_away_again() {
    let bench = Bench::new("another-size");
    // The proxy answers for the server, which has something else.
    bench.proxy.fail(1, Trap::Answer(200, "", ""), |kind| kind == Kind::Put);
    super::support::s3::S3::shared().store("another-size", "agentd/here/a.tar", b"half");
    let error = bench.bucket().put("a.tar", &bench.file(100)).await.expect_err("it is not there");
    assert!(said(&error).contains("a.tar has 4 bytes there and not the 100 that were sent"), "{error}");
    assert!(bench.stored("a.tar").is_none());
}
