//! What a core holds of the machine at one moment.

/// Counts of what is begun and must end, and of what is taken and must be given back. Of a core at rest all but the files of
/// its database, the sockets of its clients and the tasks of both stay as they were after its start; one that grows with the
/// load and stays is a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Tasks that have not ended.
    pub tasks: u64,
    /// Timers set.
    pub timers: u64,
    /// Operations that the kernel is not done with, or whose end nobody has taken yet.
    pub operations: u64,
    /// Open files and directories.
    pub files: u64,
    /// Files in the kernel's table of registered ones, those included that it has not let go of yet.
    pub registered_files: u64,
    /// Open sockets, listening ones included.
    pub sockets: u64,
    /// Buffers for receives that are out of the kernel's ring.
    pub receive_buffers: u64,
    /// Buffers for transfers to and from files.
    pub file_buffers: u64,
}
