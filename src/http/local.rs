//! Who is at the other end of the control socket.

/// Kept with a connection that came over the control socket, and with no
/// other; nothing that a client sends makes one. The kernel says what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPeer {
    /// The user that the other process runs as.
    pub uid: u32,
    /// The other process, where the kernel tells.
    pub pid: Option<i32>,
}
