//! The closed table of methods: what is not in it cannot be called, whatever its name looks like.

use self::Kind::{Bool, Int, List, Struct, Text};

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Brings a group of the manifest into the fleet.
    AddProcessGroup,
    /// Empties the logs of all processes.
    ClearAllProcessLogs,
    /// Empties the daemon's own log.
    ClearLog,
    /// Empties the logs of one process.
    ClearProcessLogs,
    /// What the protocol is called.
    GetApiVersion,
    /// Settings of all processes of the manifest.
    GetAllConfigInfo,
    /// All processes.
    GetAllProcessInfo,
    /// The name of this daemon.
    GetIdentification,
    /// The daemon's process number.
    GetPid,
    /// One process.
    GetProcessInfo,
    /// The state of the daemon.
    GetState,
    /// The daemon's version.
    GetSupervisorVersion,
    /// A window of the daemon's own log.
    ReadLog,
    /// A window of what a process complained about.
    ReadProcessStderrLog,
    /// A window of what a process printed.
    ReadProcessStdoutLog,
    /// Reads the manifest again and says what differs.
    ReloadConfig,
    /// Drops a group at rest.
    RemoveProcessGroup,
    /// Begins everything anew.
    Restart,
    /// Goes to event listeners, of which there are none.
    SendRemoteCommEvent,
    /// Writes to a program.
    SendProcessStdin,
    /// Drains all and ends.
    Shutdown,
    /// Signals all processes.
    SignalAllProcesses,
    /// Signals one process.
    SignalProcess,
    /// Signals a group.
    SignalProcessGroup,
    /// Starts all processes.
    StartAllProcesses,
    /// Starts one process.
    StartProcess,
    /// Starts a group.
    StartProcessGroup,
    /// Stops all processes.
    StopAllProcesses,
    /// Stops one process.
    StopProcess,
    /// Stops a group.
    StopProcessGroup,
    /// The end of what a process complained about.
    TailProcessStderrLog,
    /// The end of what a process printed.
    TailProcessStdoutLog,
    /// All methods.
    ListMethods,
    /// What a method does.
    MethodHelp,
    /// What a method takes and gives.
    MethodSignature,
    /// Several calls in one.
    Multicall,
}

/// Types by the names that introspection gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A list.
    List,
    /// Yes or no.
    Bool,
    /// A number.
    Int,
    /// A text.
    Text,
    /// Members by name.
    Struct,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            List => "array",
            Bool => "boolean",
            Int => "int",
            Text => "string",
            Struct => "struct",
        }
    }
}

/// A method as the table has it.
#[derive(Debug)]
pub struct Entry {
    /// `namespace.method`.
    pub name: &'static str,
    /// What is called; an alias calls the same.
    pub method: Method,
    /// What it gives.
    pub gives: Kind,
    /// What it takes.
    pub takes: &'static [Kind],
    /// How many of those may be left out, from the end.
    pub optional: usize,
    /// What it does.
    pub help: &'static str,
}

/// The method of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    TABLE.binary_search_by_key(&name, |entry| entry.name).ok().map(|at| &TABLE[at])
}

macro_rules! table {
    ($($name:literal $method:ident($($takes:ident)*; $optional:literal) $gives:ident $help:literal)*) => {
        &[$(Entry {
            name: $name,
            method: Method::$method,
            gives: $gives,
            takes: &[$($takes),*],
            optional: $optional,
            help: $help,
        }),*]
    };
}

/// Every method, sorted by name.
#[rustfmt::skip]
pub const TABLE: &[Entry] = table! {
    "supervisor.addProcessGroup" AddProcessGroup(Text; 0) Bool "bring a group of the manifest, as reloadConfig read it, into the fleet"
    "supervisor.clearAllProcessLogs" ClearAllProcessLogs(; 0) List "empty the logs of all processes"
    "supervisor.clearLog" ClearLog(; 0) Bool "empty the log of the daemon"
    "supervisor.clearProcessLog" ClearProcessLogs(Text; 0) Bool "empty the logs of a process"
    "supervisor.clearProcessLogs" ClearProcessLogs(Text; 0) Bool "empty the logs of a process"
    "supervisor.getAPIVersion" GetApiVersion(; 0) Text "the version of this protocol"
    "supervisor.getAllConfigInfo" GetAllConfigInfo(; 0) List "settings of every process of the manifest as read last"
    "supervisor.getAllProcessInfo" GetAllProcessInfo(; 0) List "every process"
    "supervisor.getIdentification" GetIdentification(; 0) Text "the name of this daemon"
    "supervisor.getPID" GetPid(; 0) Int "the process number of the daemon"
    "supervisor.getProcessInfo" GetProcessInfo(Text; 0) Struct "one process"
    "supervisor.getState" GetState(; 0) Struct "the state of the daemon"
    "supervisor.getSupervisorVersion" GetSupervisorVersion(; 0) Text "the version of the daemon"
    "supervisor.getVersion" GetApiVersion(; 0) Text "the version of this protocol"
    "supervisor.readLog" ReadLog(Int Int; 0) Text "a window of the daemon's log: offset and length"
    "supervisor.readMainLog" ReadLog(Int Int; 0) Text "a window of the daemon's log: offset and length"
    "supervisor.readProcessLog" ReadProcessStdoutLog(Text Int Int; 0) Text "a window of a process' output: offset and length"
    "supervisor.readProcessStderrLog" ReadProcessStderrLog(Text Int Int; 0) Text "a window of a process' errors: offset and length"
    "supervisor.readProcessStdoutLog" ReadProcessStdoutLog(Text Int Int; 0) Text "a window of a process' output: offset and length"
    "supervisor.reloadConfig" ReloadConfig(; 0) List "read the manifest and say which groups are added, changed and removed"
    "supervisor.removeProcessGroup" RemoveProcessGroup(Text; 0) Bool "drop a group whose processes are at rest"
    "supervisor.restart" Restart(; 0) Bool "drain everything and begin anew with the manifest as it is then"
    "supervisor.sendProcessStdin" SendProcessStdin(Text Text; 0) Bool "write to the standard input of a program"
    "supervisor.sendRemoteCommEvent" SendRemoteCommEvent(Text Text; 0) Bool "for event listeners; there are none here"
    "supervisor.shutdown" Shutdown(; 0) Bool "drain everything and end"
    "supervisor.signalAllProcesses" SignalAllProcesses(Text; 0) List "send a signal to every process"
    "supervisor.signalProcess" SignalProcess(Text Text; 0) Bool "send a signal to a process"
    "supervisor.signalProcessGroup" SignalProcessGroup(Text Text; 0) List "send a signal to the processes of a group"
    "supervisor.startAllProcesses" StartAllProcesses(Bool; 1) List "start every process; wait until each is up"
    "supervisor.startProcess" StartProcess(Text Bool; 1) Bool "start a process; wait until it is up"
    "supervisor.startProcessGroup" StartProcessGroup(Text Bool; 1) List "start the processes of a group; wait until each is up"
    "supervisor.stopAllProcesses" StopAllProcesses(Bool; 1) List "drain and stop every process; wait until each is down"
    "supervisor.stopProcess" StopProcess(Text Bool; 1) Bool "drain and stop a process; wait until it is down"
    "supervisor.stopProcessGroup" StopProcessGroup(Text Bool; 1) List "drain and stop the processes of a group; wait until each is down"
    "supervisor.tailProcessLog" TailProcessStdoutLog(Text Int Int; 0) List "the end of a process' output, the size of the log, whether more is missing"
    "supervisor.tailProcessStderrLog" TailProcessStderrLog(Text Int Int; 0) List "the end of a process' errors, the size of the log, whether more is missing"
    "supervisor.tailProcessStdoutLog" TailProcessStdoutLog(Text Int Int; 0) List "the end of a process' output, the size of the log, whether more is missing"
    "system.listMethods" ListMethods(; 0) List "every method"
    "system.methodHelp" MethodHelp(Text; 0) Text "what a method does"
    "system.methodSignature" MethodSignature(Text; 0) List "the types a method gives and takes"
    "system.multicall" Multicall(List; 0) List "several calls in one, in order; a result is the bare value"
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_complete() {
        assert!(TABLE.is_sorted_by_key(|entry| entry.name));
        assert_eq!(TABLE.len(), 41);
        for entry in TABLE {
            assert!(find(entry.name).is_some_and(|found| found.method == entry.method), "{}", entry.name);
        }
        for name in
            ["", "supervisor", "supervisor.", "supervisor._update", "supervisor.getPID.real", "getPID", "x.y"]
        {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
