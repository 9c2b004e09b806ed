//! Memory has a bound, however large the file is.

use std::path::Path;
use std::process::Command;

use super::support::s3::S3;
use super::{PIECE, TempDir, bucket, section};

const ENDPOINT: &str = "S3_MEMORY_ENDPOINT";
const BYTES: u64 = 300_000_000;

/// The most that this process has ever had in memory, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a file");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

async fn there_and_back(endpoint: &str) {
    let bucket = bucket(&section(endpoint, "memory"));
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| -> std::path::PathBuf { Path::join(folder.path(), name) };
    let file = std::fs::File::create(path("large")).expect("a file");
    file.set_len(BYTES).expect("a long file");
    let before = peak();
    bucket.put("large.tar", &path("large")).await.expect("sent");
    assert_eq!(bucket.get("large.tar", &path("back")).await.expect("fetched"), BYTES);
    let grown = peak() - before;
    println!("300 MB there and back: {} MiB more in memory at most", grown >> 20);
    assert!(grown < 5 * PIECE, "{grown} bytes");
}

/// In a process of its own: the other tests use memory too.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_takes_the_memory_of_a_few_parts() {
    if let Ok(endpoint) = std::env::var(ENDPOINT) {
        return there_and_back(&endpoint).await;
    }
    let server = S3::shared();
    server.make("memory");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "memory::a_large_file_takes_the_memory_of_a_few_parts", "--nocapture"]);
    let ran = command.env(ENDPOINT, format!("http://{}", server.address())).output().expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    print!("{said}");
}
