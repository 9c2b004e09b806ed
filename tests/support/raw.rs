//! Bytes on a socket, for what no HTTP client would send.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::PATIENCE;

/// A connection.
pub struct Raw(TcpStream);

impl Raw {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    /// Sends; the other side may hang up meanwhile, whether it has is what
    /// the answer tells.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    /// Everything until the other side hangs up.
    pub fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                // What is left unread on the other side comes back as a reset.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the other side neither answers nor hangs up: {error}"),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Everything up to some text, which must come.
    pub fn read_until(&mut self, text: &str) -> String {
        let mut read = String::new();
        let mut buffer = [0; 4096];
        while !read.contains(text) {
            let count = self.0.read(&mut buffer).expect("an answer");
            assert!(count > 0, "it hung up after {read:?}");
            read.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        read
    }

    pub fn stream(&self) -> &TcpStream {
        &self.0
    }
}

/// The head and the body of an HTTP message, which must say how long it is;
/// `None` when the other side hangs up (0 bytes) before it is whole.
pub fn message(mut read: impl FnMut(&mut [u8]) -> usize) -> Option<(String, String)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match read(&mut buffer) {
            0 => return None,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
