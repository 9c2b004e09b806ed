//! What works when the server does.

use std::os::unix::fs::PermissionsExt as _;

use agentd::clock::system_now;

use super::support::s3::{Kind, S3};
use super::{Bench, PIECE, made_up};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_there_and_comes_back() {
    let bench = Bench::new("there-and-back");
    let bucket = bench.bucket();
    for bytes in [0, 1, 100_000, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 12_345] {
        let (name, back) = (format!("a-{bytes}.tar.zst"), bench.path("back"));
        bucket.put(&name, &bench.file(bytes)).await.expect("sent");
        assert!(bench.stored(&name).expect("it is there") == made_up(bytes), "{bytes}");
        assert_eq!(bucket.get(&name, &back).await.expect("fetched"), bytes as u64);
        assert!(std::fs::read(&back).expect("a file") == made_up(bytes), "{bytes}");
        assert_eq!(std::fs::metadata(&back).expect("a file").permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(bench.unfinished(), 0);
    let seen = bench.proxy.seen();
    assert!(seen.contains(&Kind::Put) && seen.contains(&Kind::Part(3)), "small and large ones go different ways");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_what_is_there_and_nothing_beside_it() {
    let bench = Bench::new("a-list");
    let (bucket, server) = (bench.bucket(), S3::shared());
    assert_eq!(bucket.list().await.expect("a list"), []);
    let before = system_now();
    for name in ["b.tar", "a.tar", "c+d e&f.tar"] {
        server.store("a-list", &format!("agentd/here/{}", name.replace(' ', "%20")), name.as_bytes());
    }
    for beside in ["agentd/b.tar", "agentd/here-too/b.tar", "agentd/here/below/b.tar", "b.tar"] {
        server.store("a-list", beside, b"not ours");
    }
    let found = bucket.list().await.expect("a list");
    let names: Vec<_> = found.iter().map(|object| (object.name.as_str(), object.bytes)).collect();
    assert_eq!(names, [("a.tar", 5), ("b.tar", 5), ("c+d e&f.tar", 11)]);
    assert!(found.iter().all(|object| object.modified.since(before).as_secs() < 600), "{found:?}");
    bucket.remove("a.tar").await.expect("removed");
    bucket.remove("a.tar").await.expect("that it is gone already is no error");
    assert_eq!(bucket.list().await.expect("a list").len(), 2);
    assert_eq!(server.read("a-list", "agentd/b.tar").as_deref(), Some(&b"not ours"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_in_pages() {
    let bench = Bench::new("a-long-list");
    for number in 0..1_205 {
        S3::shared().store("a-long-list", &format!("agentd/here/{number:05}"), b"");
    }
    let found = bench.bucket().list().await.expect("a list");
    assert_eq!((found.len(), found[1_204].name.as_str()), (1_205, "01204"));
    assert_eq!(bench.proxy.count(Kind::List), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_prefix_the_bucket_itself_is_used() {
    let mut bench = Bench::new("no-prefix");
    bench.section.prefix = String::new();
    let bucket = bench.bucket();
    bucket.put("a.tar", &bench.file(10)).await.expect("sent");
    assert_eq!(bucket.list().await.expect("a list")[0].name, "a.tar");
    assert!(bucket.describe().starts_with("s3://no-prefix at 127.0.0.1:"), "{}", bucket.describe());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_is_refused_before_anything_is_asked() {
    let bench = Bench::new("other-names");
    let bucket = bench.bucket();
    let file = bench.file(1);
    let longest = "x".repeat(256);
    for name in ["", ".", "..", "../a", "a/b", "/a", "a b", "a?b", "a#b", "a%2fb", ".hidden", "ä", &longest] {
        let refused = bucket.put(name, &file).await.expect_err(name);
        assert!(refused.to_string().contains("is no name of a backup"), "{refused}");
        bucket.remove(name).await.expect_err(name);
        bucket.get(name, &bench.path("into")).await.expect_err(name);
    }
    assert_eq!(bench.proxy.seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_file_of_a_name_replaces_the_first() {
    let bench = Bench::new("replaced");
    let bucket = bench.bucket();
    for bytes in [PIECE + 5, 7, PIECE + 9] {
        bucket.put("a.tar", &bench.file(bytes)).await.expect("sent");
        assert_eq!(bench.stored("a.tar").expect("it is there").len(), bytes);
    }
}
