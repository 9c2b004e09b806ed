//! Where a service's files are: what the verbs that work on a service have to
//! know of its configuration. Nothing else of it is looked at, so they also
//! work for somebody who may not read its secrets, and while the file is being
//! edited.

use std::path::{Path, PathBuf};

use super::database;
use super::reader::Reader;
use super::sections::{DataSection, ServerSection};
use super::setting::ControlSocket;
use super::{Config, Fault, Sources};

/// Where the unit of the package has the control socket. It is looked for here
/// when nobody says where and there is none in `./data`.
const INSTALLED: &str = "/run/agentd/control.sock";

/// Where a service's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The data folder.
    pub data: PathBuf,
    /// The database file.
    pub database: PathBuf,
    /// The control socket; `None` when it is switched off.
    pub control_socket: Option<PathBuf>,
}

impl Places {
    /// Reads them from the same sources as the service does.
    ///
    /// # Errors
    /// When the file cannot be read, or one of these keys is wrong.
    pub fn find(sources: &Sources) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader::new(sources)?;
        let dir = DataSection::read_dir(&mut reader);
        let database = database::read(&mut reader, &dir);
        let configured = ServerSection::read_control_socket(&mut reader);
        let nobody_said = configured.is_none() && reader.is_default("data.dir");
        reader.faults()?;
        let socket = control_socket(configured.as_ref(), &dir);
        let installed = PathBuf::from(INSTALLED);
        // One that may not be looked at is there.
        let is_there = |path: &Path| {
            !std::fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let other = nobody_said && !socket.as_deref().is_some_and(is_there) && is_there(&installed);
        Ok(Self { data: dir, database, control_socket: if other { Some(installed) } else { socket } })
    }
}

impl Config {
    /// The control socket; `None` when it is switched off.
    #[must_use]
    pub fn control_socket(&self) -> Option<PathBuf> {
        control_socket(self.server.control_socket.as_ref(), &self.data.dir)
    }
}

fn control_socket(configured: Option<&ControlSocket>, dir: &Path) -> Option<PathBuf> {
    match configured {
        None => Some(dir.join("control.sock")),
        Some(ControlSocket::Off) => None,
        Some(ControlSocket::At(path)) => Some(path.clone()),
    }
}
