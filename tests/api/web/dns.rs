//! A name server over UDP that answers as a test decides, also differently
//! each time. Its messages are written by hand: RFC 1035, section 4.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// An answer.
#[derive(Clone, Debug)]
pub enum Record {
    A(&'static str),
    Aaaa(&'static str),
    /// This name is another name for that one.
    Cname(&'static str),
    /// Tag and value of a record on authorities (RFC 8659).
    Caa(&'static str, &'static str),
}

/// How a question is answered.
pub enum Reply {
    Records(Vec<Record>),
    NoSuchName,
    Failure,
}

/// The server; it ends with the test's process.
pub struct Dns {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// Answers by name; the second argument counts the questions for the
    /// IPv4 addresses of this name, from 0.
    pub fn start(answer: impl Fn(&str, usize) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        let asked = Arc::new(Mutex::new(Vec::<String>::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = &buffer[..length];
                let (name, kind) = question(query);
                let count = {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    let count = seen.iter().filter(|asked| **asked == name).count();
                    if kind == 1 {
                        seen.push(name.clone());
                    }
                    count
                };
                let _ = socket.send_to(&message(query, kind, &answer(&name, count)), from);
            }
        });
        Self { address, asked }
    }

    /// Every name has these addresses.
    pub fn always(records: Vec<Record>) -> Self {
        Self::start(move |_, _| Reply::Records(records.clone()))
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// How often the IPv4 addresses of a name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|asked| *asked == name).count()
    }
}

/// Name and type of the one question.
fn question(query: &[u8]) -> (String, u16) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]))
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("a short label");
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

fn caa(tag: &str, value: &str) -> Vec<u8> {
    let length = u8::try_from(tag.len()).expect("a short tag");
    [&[0, length], tag.as_bytes(), value.as_bytes()].concat()
}

fn message(query: &[u8], asked: u16, reply: &Reply) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name") + 5;
    let mut answers = Vec::new();
    let mut count = 0_u16;
    // Records follow a chain: each CNAME names what the next record is of.
    let mut owner = vec![0xc0, 12];
    if let Reply::Records(records) = reply {
        for record in records {
            let (kind, data) = match record {
                Record::A(address) => (1, address.parse::<Ipv4Addr>().expect("IPv4").octets().to_vec()),
                Record::Aaaa(address) => (28, address.parse::<Ipv6Addr>().expect("IPv6").octets().to_vec()),
                Record::Cname(target) => (5, name(target)),
                Record::Caa(tag, value) => (257, caa(tag, value)),
            };
            if kind != 5 && kind != asked {
                continue;
            }
            count += 1;
            answers.extend_from_slice(&owner);
            answers.extend_from_slice(&u16::to_be_bytes(kind));
            // Class IN, and no time to live: it is to be asked for again.
            answers.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
            answers.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
            answers.extend_from_slice(&data);
            if let Record::Cname(target) = record {
                owner = name(target);
            }
        }
    }
    let code = match reply {
        Reply::Records(_) => 0,
        Reply::Failure => 2,
        Reply::NoSuchName => 3,
    };
    let mut message = query[..2].to_vec();
    message.extend_from_slice(&[0x81, 0x80 | code, 0, 1]);
    message.extend_from_slice(&count.to_be_bytes());
    message.extend_from_slice(&[0, 0, 0, 0]);
    message.extend_from_slice(&query[12..end]);
    message.extend_from_slice(&answers);
    message
}
