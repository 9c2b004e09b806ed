//! What the setup has to know: flags, over them nothing; below them a file of
//! answers; and what is still missing is asked for on a terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use url::Url;

use crate::cli::failure::Failure;
use crate::cli::output::plain;
use crate::cli::password::PasswordSource;
use crate::config::{CertName, https_address};
use crate::http::in_words;
use crate::text::read_file;
use crate::users::UserName;

/// Whose certificates are ordered when nobody names a directory.
const USUAL_AUTHORITY: &str = "Let's Encrypt";

/// The answers, as flags and as keys of the file.
#[derive(clap::Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Answers {
    /// Name that the service is reached by, such as agents.example.com; may be given again
    #[arg(long, value_name = "NAME")]
    #[serde(deserialize_with = "one_or_many")]
    domain: Vec<String>,
    /// E-mail address for the authority that gives out certificates
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Accept the terms of service of that authority
    #[arg(long)]
    accept_terms: bool,
    /// Name of the first user, who may do everything [default: admin]
    #[arg(long, value_name = "NAME")]
    admin: Option<String>,
    /// File that holds the first user's password; - for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Make a password up, and print it once
    #[arg(long, conflicts_with = "password_file")]
    generate_password: bool,
    /// Name of the first tenant [default: main]
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// ACME directory to order certificates from; none: as configured, or Let's Encrypt
    #[arg(long, value_name = "URL")]
    directory: Option<String>,
    /// PEM file of authorities to trust for that directory
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Address and port for HTTPS [default: port 443 on all addresses]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address and port for plain HTTP, which is sent on [default: port 80 on all addresses]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<String>,
}

/// Answers that have been looked at.
pub(super) struct Plan {
    pub domains: Vec<CertName>,
    pub email: String,
    pub admin: UserName,
    pub password: PasswordSource,
    pub tenant: String,
    pub directory: Option<Url>,
    pub ca_file: Option<PathBuf>,
    pub listen: SocketAddr,
    pub http_listen: SocketAddr,
}

impl Plan {
    /// Where people will reach the service.
    pub(super) fn address(&self) -> String {
        https_address(&self.domains, self.listen)
    }
}

/// One text, or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a name or a list of names")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

impl Answers {
    /// Reads a file of answers.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let text = read_file(path)
            .map_err(|error| Failure::Usage(format!("the answers in {name} cannot be read: {error}")))?;
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            // Not the line itself, which may hold what is nobody's business.
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).map_or(0, |before| before.matches('\n').count()) + 1;
            Failure::Usage(format!("{name}:{line}: {}", plain(&in_words(error.message()))))
        })
    }

    /// These, and those of `other` where these say nothing.
    pub(super) fn over(self, other: Self) -> Self {
        let (from_file, generate) = match (self.password_file.is_some(), self.generate_password) {
            // A password from elsewhere would contradict what was said here.
            (false, false) => (other.password_file, other.generate_password),
            _ => (self.password_file, self.generate_password),
        };
        Self {
            domain: if self.domain.is_empty() { other.domain } else { self.domain },
            email: self.email.or(other.email),
            accept_terms: self.accept_terms || other.accept_terms,
            admin: self.admin.or(other.admin),
            password_file: from_file,
            generate_password: generate,
            tenant: self.tenant.or(other.tenant),
            directory: self.directory.or(other.directory),
            ca_file: self.ca_file.or(other.ca_file),
            listen: self.listen.or(other.listen),
            http_listen: self.http_listen.or(other.http_listen),
        }
    }

    /// Looks at the answers and asks for those that are missing.
    pub(super) fn plan(self) -> Result<Plan, Failure> {
        let asks = std::io::stdin().is_terminal() && self.password_file.as_deref() != Some(Path::new("-"));
        let domains = if self.domain.is_empty() {
            vec![asked(asks, "--domain", "Name that this service is reached by, such as agents.example.com", domain)?]
        } else {
            self.domain.iter().map(|text| given("--domain", text, domain)).collect::<Result<_, _>>()?
        };
        let email = match &self.email {
            Some(text) => given("--email", text, email)?,
            None => asked(asks, "--email", "E-mail address for the authority that gives out certificates", email)?,
        };
        let directory = self.directory.as_ref().map(|text| given("--directory", text, directory)).transpose()?;
        if !self.accept_terms {
            accept_terms(asks, directory.as_ref())?;
        }
        let address = |flag, text: Option<&String>, port| match text {
            Some(text) => given(flag, text, |text| {
                text.parse().map_err(|_| "must be an address and port, such as 0.0.0.0:443 or [::]:443".into())
            }),
            None => Ok(everywhere(port)),
        };
        Ok(Plan {
            admin: given("--admin", self.admin.as_deref().unwrap_or("admin"), UserName::read)?,
            tenant: given("--tenant", self.tenant.as_deref().unwrap_or("main"), tenant)?,
            listen: address("--listen", self.listen.as_ref(), 443)?,
            http_listen: address("--http-listen", self.http_listen.as_ref(), 80)?,
            // The service runs elsewhere.
            ca_file: self.ca_file.map(std::path::absolute).transpose().map_err(Failure::other)?,
            password: PasswordSource { password_file: self.password_file, generate_password: self.generate_password },
            domains,
            email,
            directory,
        })
    }
}

fn given<T>(flag: &str, text: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Failure> {
    read(text).map_err(|fault| Failure::Usage(format!("{flag} {text:?} {fault}")))
}

/// Asks until the answer can be used.
fn asked<T>(asks: bool, flag: &str, question: &str, read: fn(&str) -> Result<T, String>) -> Result<T, Failure> {
    if !asks {
        return Err(Failure::Usage(format!(
            "{flag} is missing, and this is not a terminal where it could be asked for"
        )));
    }
    loop {
        match read(&line(&format!("{question}: "))?) {
            Ok(value) => return Ok(value),
            Err(fault) => eprintln!("It {fault}."),
        }
    }
}

fn line(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).map_err(Failure::other)? == 0 {
        return Err(Failure::other("nothing was typed"));
    }
    Ok(line.trim().to_owned())
}

fn accept_terms(asks: bool, directory: Option<&Url>) -> Result<(), Failure> {
    if !asks {
        return Err(Failure::Usage(
            "--accept-terms is missing: an authority gives certificates on its terms only".into(),
        ));
    }
    let authority = directory.map_or_else(|| USUAL_AUTHORITY.to_owned(), |url| plain(url.as_str()));
    let answer = line(&format!("Do you accept the terms of service of {authority}? [y/N] "))?;
    match answer.as_str() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::other("nothing was changed")),
    }
}

fn domain(text: &str) -> Result<CertName, String> {
    CertName::read(text)
}

fn email(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_graphic();
    let parts =
        text.split_once('@').filter(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    let is_one = parts.is_some() && text.len() <= 254 && text.chars().all(fits);
    if is_one { Ok(text.to_owned()) } else { Err("must be an e-mail address, such as ops@example.com".into()) }
}

fn directory(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| "must be an https URL, such as https://acme.example/directory".into())
}

fn tenant(text: &str) -> Result<String, String> {
    let text = text.trim();
    let fits = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 200 characters".into()) }
}

/// All addresses of the machine, which may have none of IPv6.
fn everywhere(port: u16) -> SocketAddr {
    let all: SocketAddr = ([0_u16; 8], 0).into();
    match TcpListener::bind(all) {
        Ok(_) => ([0_u16; 8], port).into(),
        Err(_) => ([0_u8; 4], port).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> Result<Answers, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("answers.toml");
        std::fs::write(&path, text).expect("written");
        Answers::read(&path).map_err(|failure| match failure {
            Failure::Usage(what) => what.rsplit_once("answers.toml").expect("its name").1.to_owned(),
            _ => panic!("another failure"),
        })
    }

    #[test]
    fn a_file_of_answers_is_read_strictly() {
        let read = answers("domain = 'a.example'\nemail = 'a@b.example'\naccept_terms = true\n").expect("answers");
        assert_eq!((read.domain, read.accept_terms), (vec!["a.example".to_owned()], true));
        assert_eq!(answers("domain = ['a.example', 'b.example']").expect("answers").domain.len(), 2);
        assert_eq!(
            answers("# one\npassword = 'geheim geheim'\n").expect_err("unknown").split(',').next(),
            Some(":2: unknown field `password`")
        );
        assert!(!answers("password = 'geheim geheim'").expect_err("unknown").contains("geheim"));
        assert!(answers("domain = 3").expect_err("a number").contains("must be a name or a list of names"));
        assert!(answers("email = true").expect_err("no text").starts_with(":1: must be a string"));
    }

    #[test]
    fn flags_come_before_the_file() {
        let file = Answers { email: Some("f".into()), password_file: Some("f".into()), ..Answers::default() };
        let flags = Answers { email: Some("x".into()), generate_password: true, ..Answers::default() };
        let both = flags.over(file);
        assert_eq!((both.email.as_deref(), both.password_file, both.generate_password), (Some("x"), None, true));
    }

    #[test]
    fn addresses_are_looked_at() {
        for wrong in ["", "a", "@b.example", "a@", "a@b", "a b@c.example", "a@b@c.example", "a@b.example\n"] {
            assert!(email(wrong).is_err(), "{wrong:?}");
        }
        assert!(email("ops+agentd@example.com").is_ok());
        assert!(directory("https://acme.example/dir").is_ok() && directory("file:///x").is_err());
    }
}
