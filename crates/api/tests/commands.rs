//! Commands over the control socket, with a supervisor that runs a fleet without processes.
//!
//! The supervisor reaps every child of the process it lives in, so nothing here starts one.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::net::UnixListener;
use std::time::Duration;

use qfleet_api::protocol::Pid;
use qfleet_api::socket::client::part;
use qfleet_api::{Client, ClientError, Dispatch, Limits, Server};
use qfleet_model::command::{Command, Reply};
use qfleet_model::name::Selector;
use qfleet_model::snapshot::FleetSnapshot;
use qfleet_supervisor::Lived;
use qfleet_testkit::Scratch;
use support::SOON;

const FLEET: &str = "programs:\n  manual: {command: /bin/cat, autostart: false}\n  \
    many: {command: /bin/cat, autostart: false, numprocs: 2}\n";

/// One daemon for all cases: a process can have one supervisor only.
#[test]
fn a_running_fleet_answers_until_it_is_told_to_end() {
    let dir = Scratch::new();
    std::fs::write(dir.join("again.yaml"), FLEET).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lived = runtime.block_on(async {
        let (supervisor, handle) = support::supervisor(&dir, FLEET);
        let socket = dir.join("q.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = Server::start(listener, Limits::default(), move || Dispatch::new(handle)).unwrap();
        let client = Client::new(socket);
        let (lived, ()) = tokio::join!(supervisor.run(), async {
            tokio::time::timeout(SOON, questions(&client, &dir)).await.expect("answers in time");
        });
        server.stop(Duration::from_secs(2));
        assert!(matches!(client.get::<Pid>("pid").await, Err(ClientError::NoDaemon(_))));
        lived
    });
    let Lived::Ended(ended) = lived else { panic!("nobody takes our place here") };
    assert_eq!((ended.code, ended.again), (0, false));
}

async fn questions(client: &Client, dir: &Scratch) {
    let fleet = settled(client).await;
    assert_eq!(fleet.pid, i32::try_from(std::process::id()).unwrap());
    let names: Vec<_> = fleet.processes.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["manual", "many:many_00", "many:many_01"]);

    let stop = Command::Stop { names: vec![Selector::All] };
    let results = ask(client, &stop).await.unwrap().results;
    assert!(
        results.len() == 3 && results.iter().all(|result| result.ok),
        "stopping what is stopped is fine: {results:?}"
    );
    let typo = Command::Start { names: vec![Selector::Group("manul".to_owned())] };
    assert_eq!(refused(client, &typo).await, ("no-match".to_owned(), "did you mean `manual`?".to_owned()));
    let signal = Command::Signal { names: vec![Selector::Group("manual".to_owned())], signal: 10 };
    let results = ask(client, &signal).await.unwrap().results;
    assert_eq!((results[0].ok, results[0].text.as_str()), (false, "not running"));

    logs(client).await;

    let reload = |dry_run| Command::Reload { dry_run, reset: false };
    assert_eq!(ask(client, &reload(false)).await.unwrap().results, [], "nothing has changed");
    std::fs::write(dir.join("again.yaml"), FLEET.replace("command", "comand")).unwrap();
    let (code, _) = refused(client, &reload(false)).await;
    assert_eq!(code, "bad-manifest");
    std::fs::write(dir.join("again.yaml"), FLEET.replace("many", "more")).unwrap();
    let planned = ask(client, &reload(true)).await.unwrap().results;
    assert_eq!(planned.len(), 2, "{planned:?}");
    assert!(settled(client).await.processes.iter().any(|process| process.group == "many"), "a dry run");
    // Somebody follows a process that the reload removes: the stream ends with it.
    let mut followed = client.stream("logs/many%3A0/stdout?follow=1").await.unwrap();
    assert_eq!(ask(client, &reload(false)).await.unwrap().results.len(), 2);
    assert!(followed.next().await.is_none_or(|piece| piece.is_ok_and(|piece| piece.is_empty())));

    let mut last = client.stream("logs/manual/stdout?follow=1").await.unwrap();
    ask(client, &Command::Shutdown { wait: false }).await.unwrap();
    while let Some(piece) = last.next().await {
        assert!(piece.is_ok_and(|piece| piece.is_empty()), "ends politely with the daemon");
    }
}

async fn logs(client: &Client) {
    let pieces = client.stream(&format!("logs/{}/stderr?lines=5", part("many:many_01"))).await;
    assert!(pieces.unwrap().next().await.is_none(), "nothing was printed");
    for (name, code) in [("many", "bad-request"), ("nobody", "no-match"), (":x", "bad-request")] {
        match client.stream(&format!("logs/{}/stdout", part(name))).await {
            Err(ClientError::Said(body)) => assert_eq!(body.code, code, "{body:?}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

async fn settled(client: &Client) -> FleetSnapshot {
    loop {
        let fleet: FleetSnapshot = client.get("status").await.unwrap();
        if !fleet.processes.is_empty() {
            return fleet;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ask(client: &Client, command: &Command) -> Result<Reply, ClientError> {
    client.post("command", command).await
}

async fn refused(client: &Client, command: &Command) -> (String, String) {
    match ask(client, command).await {
        Err(ClientError::Said(body)) => (body.code, body.hint.unwrap_or_default()),
        other => panic!("{other:?}"),
    }
}
