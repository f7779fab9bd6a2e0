//! Programs written with supervisord's own library for Python.

use std::process::Command;

use crate::support::{Fleet, SOON, text};
use qfleet_testkit::eventually;

/// Runs a script, with the Python that Debian packages are for, in which `s` is a proxy.
#[track_caller]
fn python(fleet: &Fleet, script: &str) -> String {
    let socket = fleet.dir.join("q.sock").display().to_string();
    let head = format!(
        "import xmlrpc.client as x\nfrom supervisor.xmlrpc import SupervisorTransport as T\n\
        p = x.ServerProxy('http://127.0.0.1', transport=T('', '', 'unix://{socket}'))\ns = p.supervisor\n\
        def fault(call, *params):\n    try: return call(*params)\n    except x.Fault as f: return (f.faultCode, f.faultString)\n"
    );
    let output = Command::new("/usr/bin/python3").args(["-c", &(head + script)]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}\n{}", text(&output.stderr), fleet.log());
    text(&output.stdout)
}

#[test]
fn every_method_answers_a_program() {
    let mut fleet = Fleet::start(
        "programs:
  echo: {command: \"sh -c 'printf \\\"a\\\\033[0mb\\\\377\\\\r\\\\n\\\"; while read line; do echo got $line; done'\", startsecs: 0}
  off: {command: sleep 1000, autostart: false}
  many: {command: sleep 1000, numprocs: 2, startsecs: 0}
logging: {dir: '{dir}/logs'}
",
    );
    fleet.wait_state("many:many_01", "RUNNING");
    eventually(SOON, "the first line", || fleet.ok(&["tail", "echo"]).contains('b').then_some(()));
    eventually(SOON, "the file", || {
        fleet.dir.join("logs/echo.log").metadata().is_ok_and(|file| file.len() > 0).then_some(())
    });
    let said = python(
        &fleet,
        r#"
assert s.getAPIVersion() == s.getVersion() == '3.0'
assert s.getIdentification() == 'qfleet'
assert s.getState() == {'statecode': 1, 'statename': 'RUNNING'}
names = p.system.listMethods()
assert len(names) == 41 and names == sorted(names), names
for name in names:
    assert p.system.methodHelp(name) and p.system.methodSignature(name)
assert p.system.methodSignature('supervisor.readLog') == ['string', 'int', 'int']
assert fault(p.system.methodHelp, 'x.y')[0] == 4
info = s.getProcessInfo('echo')
wanted = 'name group start stop now state statename spawnerr exitstatus logfile stdout_logfile stderr_logfile pid description'
assert set(wanted.split()) <= set(info), info
assert info['state'] == 20 and info['statename'] == 'RUNNING' and info['pid'] > 0 and info['now'] >= info['start'] > 0
assert info['stdout_logfile'].endswith('/logs/echo.log'), info
assert [i['name'] for i in s.getAllProcessInfo()] == ['echo', 'many_00', 'many_01', 'off']
config = {c['name']: c for c in s.getAllConfigInfo()}
assert config['many_01']['group'] == 'many' and config['off']['autostart'] is False and config['off']['inuse'] is True
assert config['off']['command'] == 'sleep 1000' and config['off']['stopsignal'] == 15 and config['off']['exitcodes'] == [0]
assert s.sendRemoteCommEvent('type', 'data') is True
print(repr(s.readProcessStdoutLog('echo', 0, 0)))
text, size, overflow = s.tailProcessStdoutLog('echo', 0, 2)
assert size == 9 and overflow is True, (text, size, overflow)
assert s.tailProcessStderrLog('echo', 0, 10) == ['', 0, False]
assert fault(s.readProcessLog, 'echo', -5, 5) == (3, 'BAD_ARGUMENTS')
assert fault(s.readProcessLog, 'many:*', 0, 0)[0] == 10
assert fault(s.readLog, 0, -1)[0] == 3
assert s.sendProcessStdin('echo', 'hi\n') is True
assert fault(s.sendProcessStdin, 'off', 'hi') == (70, 'NOT_RUNNING: off')
assert fault(s.sendProcessStdin, 'echo', 5)[0] == 2
assert s.startProcess('off', False) is True
assert fault(s.startProcess, 'echo') == (60, 'ALREADY_STARTED: echo')
assert fault(s.getProcessInfo, 'many') == (10, 'BAD_NAME: many')
assert fault(s.getProcessInfo, 'many:*') == (10, 'BAD_NAME: many:*')
assert s.stopProcess('many:many_00') is True
rows = s.startProcess('many:*')
assert rows == [{'name': 'many_00', 'group': 'many', 'status': 80, 'description': 'OK'}], rows
assert s.startProcessGroup('many') == []
assert [r['status'] for r in s.stopProcessGroup('many')] == [80, 80]
assert [r['name'] for r in s.signalAllProcesses('CONT')] == ['echo', 'off']
assert fault(s.signalProcess, 'echo', 'BOGUS') == (11, 'BAD_SIGNAL: BOGUS')
assert fault(s.signalProcess, 'many:many_00', 'CONT')[0] == 70
assert [r['group'] for r in s.startAllProcesses()] == ['many', 'many']
assert fault(s.startProcess) [0] == 2 and fault(s.startProcess, 'a', True, 'b')[0] == 2 and fault(s.startProcess, 5)[0] == 2
for name in ['nope', '_update', 'supervisor', 'rpcinterface.options.get_socket_map']:
    assert fault(getattr(s, name))[0] == 1, name
calls = [{'methodName': 'supervisor.getPID', 'params': []}, {'methodName': 'supervisor.getVersion'},
    {'methodName': 'supervisor.startProcess', 'params': ['nope']}, {'methodName': 'system.multicall', 'params': [[]]}, {}]
pid, version, bad, inner, empty = p.system.multicall(calls)
assert (pid, version) == (s.getPID(), '3.0') and bad == {'faultCode': 10, 'faultString': 'BAD_NAME: nope'}
assert inner['faultCode'] == empty['faultCode'] == 2
assert s.clearLog() is True and s.clearProcessLogs('echo') is True
assert [r['status'] for r in s.clearAllProcessLogs()] == [80] * 4
assert s.reloadConfig() == [[[], [], []]]
assert fault(s.addProcessGroup, 'many') == (90, 'ALREADY_ADDED: many')
assert fault(s.removeProcessGroup, 'many') == (91, 'STILL_RUNNING: many')
assert len(s.stopAllProcesses(False)) == 4
"#,
    );
    assert_eq!(said.trim(), r"'a�[0mb�\r\n'");
    assert!(fleet.ok(&["tail", "echo"]).contains("got hi") || fleet.log().contains("got hi"));
    assert_eq!(fleet.stop(), 0);
}
