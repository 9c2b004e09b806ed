//! A server that speaks S3 (moto, behind a door that looks at signatures, see
//! `tests/s3/server.py`) and a proxy before it that fails where a test wants it to.

mod proxy;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

pub use proxy::{Kind, Proxy, Trap};

/// What the door lets in.
pub const ACCESS_KEY: &str = "the-access-key";
pub const SECRET_KEY: &str = "the-secret-of-the-access-key/+";
pub const REGION: &str = "eu-test-1";

/// moto shows objects to those only who say who they are, and believes them.
const SOMEBODY: &str = "AWS4-HMAC-SHA256 Credential=somebody/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, \
                        Signature=none";

/// The server; all tests of a process share it. It ends when its standard input
/// does, so with the process, whatever ends that.
pub struct S3 {
    address: String,
    _child: Child,
    _stdin: Option<ChildStdin>,
}

impl S3 {
    #[track_caller]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<S3> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("target/s3/venv/bin/python");
        let mut command = Command::new(&python);
        command.arg(root.join("tests/s3/server.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let log = std::fs::File::create(root.join("target/s3/server.log")).expect("run make test-deps");
        let child = command.stderr(log).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{}: {error}; run make test-deps", python.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let port: u16 = line.trim().parse().expect("moto did not start; target/s3/server.log says why");
        Self { address: format!("127.0.0.1:{port}"), _stdin: child.stdin.take(), _child: child }
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Makes a bucket.
    #[track_caller]
    pub fn make(&self, bucket: &str) {
        let place = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>\
                     eu-west-1</LocationConstraint></CreateBucketConfiguration>";
        let made = ureq::put(self.url(bucket)).header("X-Test", "1").send(place);
        made.unwrap_or_else(|error| panic!("{bucket}: {error}"));
    }

    /// Puts an object there past the door.
    #[track_caller]
    pub fn store(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let url = self.url(&format!("{bucket}/{key}"));
        ureq::put(url).header("X-Test", "1").send(bytes).unwrap_or_else(|error| panic!("{key}: {error}"));
    }

    /// The bytes of an object; none where there is no such object.
    #[track_caller]
    pub fn read(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let url = self.url(&format!("{bucket}/{key}"));
        match ureq::get(url).header("X-Test", "1").header("Authorization", SOMEBODY).call() {
            Ok(mut answer) => Some(answer.body_mut().with_config().limit(1 << 30).read_to_vec().expect("a body")),
            Err(ureq::Error::StatusCode(404)) => None,
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// The names of all objects of a bucket.
    #[track_caller]
    pub fn names(&self, bucket: &str) -> Vec<String> {
        let url = self.url(&format!("{bucket}?list-type=2"));
        let mut answer = ureq::get(url).header("X-Test", "1").call().expect("a list");
        let text = answer.body_mut().read_to_string().expect("a text");
        text.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once('<')?.0.to_owned())).collect()
    }

    /// The uploads in parts that have neither been completed nor forgotten.
    #[track_caller]
    pub fn unfinished(&self, bucket: &str) -> usize {
        let mut answer =
            ureq::get(self.url(&format!("{bucket}?uploads"))).header("X-Test", "1").call().expect("a list");
        answer.body_mut().read_to_string().expect("a text").matches("<UploadId>").count()
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}/{rest}", self.address)
    }
}
