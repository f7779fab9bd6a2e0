//! Deliveries and settings to start a test from.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use qfleet_manifest::handler::{Handler as Settings, HttpHandler, HttpTarget, ShellCommand, ShellHandler};
use qfleet_model::job::{Format, History, Job, JobLimits};
use qfleet_model::outcome::{Outcome, Output, Reason, Scope, When};
use qfleet_model::time::WallTime;
use qfleet_queue::driver::Remark;
use qfleet_worker::handler::{
    Cancel, Delivery, Ended, GroupNote, Handler, HandlerContext, Names, Remarks, identity, open,
};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

/// Whatever a careless reader would change: spacing, number forms, an empty array, escapes, letters beyond ASCII.
pub(crate) const PAYLOAD: &str = r#"{ "uuid":"6b1a","displayName":"App\\Jobs\\Grüße","data":{"list":[],"o":{},"id":9223372036854775807,"f":1.10},"attempts":1 }"#;

pub(crate) fn context() -> HandlerContext {
    HandlerContext::new(Duration::from_secs(10), Vec::new(), Duration::from_secs(86_400))
}

pub(crate) fn http(url: &str) -> HttpHandler {
    HttpHandler::new("test", HttpTarget::Url(url.to_owned()))
}

pub(crate) fn shell(line: &str) -> ShellHandler {
    ShellHandler { command: ShellCommand::Line(line.to_owned()), ..ShellHandler::default() }
}

pub(crate) fn opened(settings: impl IntoSettings) -> Arc<dyn Handler> {
    open(&settings.into_settings(), &context()).unwrap()
}

pub(crate) trait IntoSettings {
    fn into_settings(self) -> Settings;
}

impl IntoSettings for HttpHandler {
    fn into_settings(self) -> Settings {
        Settings::Http(Box::new(self))
    }
}

impl IntoSettings for ShellHandler {
    fn into_settings(self) -> Settings {
        Settings::Shell(Box::new(self))
    }
}

/// Remembers every group that was noted.
#[derive(Debug, Default)]
pub(crate) struct Groups(Mutex<Vec<i32>>);

impl Groups {
    pub(crate) fn noted(&self) -> Vec<i32> {
        self.0.lock().unwrap().clone()
    }

    /// The group of the process, once there is one.
    pub(crate) async fn first(&self) -> i32 {
        until("a process group", || self.noted().first().copied()).await
    }
}

impl GroupNote for Groups {
    fn set(&self, group: i32) {
        self.0.lock().unwrap().push(group);
    }
}

impl Remarks for Groups {
    fn add(&self, _: Remark) {}
}

/// A delivery with its other ends.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) delivery: Delivery,
    pub(crate) cancel: watch::Sender<Option<Cancel>>,
    pub(crate) groups: Arc<Groups>,
}

pub(crate) fn given(payload: &[u8]) -> Given {
    let (cancel, receiver) = watch::channel(None);
    let groups = Arc::new(Groups::default());
    let job = Job {
        format: Format::Laravel,
        prefix: String::from("laravel_database_"),
        queue: String::from("high"),
        id: String::from("6b1a"),
        identity_of: String::from("6b1a"),
        created: String::from("1767225600"),
        created_at: Some(WallTime::from_seconds(1_767_225_600)),
        name: String::from("App\\Jobs\\Grüße"),
        attempt: 2,
        payload: payload.to_vec(),
        limits: JobLimits::default(),
        history: History { deliveries: 2, previous: Some(String::from("500")), ..History::default() },
        traceparent: None,
        tracestate: None,
        tags: vec![String::from("user:1")],
    };
    let started_at = WallTime::from_seconds(1_767_225_605);
    let delivery = Delivery {
        identity: identity::webhook_id(&job),
        // By it a handler finds what its job has left behind, and other tests run in this process at the same time.
        id: identity::delivery_id(started_at, std::array::from_fn(|_| fastrand::u8(..))),
        number: 3,
        tries: Some(5),
        timeout: Some(Duration::from_secs(30)),
        deadline: None,
        deadline_at: Some(started_at + Duration::from_secs(30)),
        started_at,
        cancel: receiver,
        group: Arc::clone(&groups) as Arc<dyn GroupNote>,
        remarks: Arc::clone(&groups) as Arc<dyn Remarks>,
        job,
    };
    Given { delivery, cancel, groups }
}

/// Hands a plain job over.
pub(crate) async fn deliver(handler: &Arc<dyn Handler>) -> Ended {
    handler.handle(given(PAYLOAD.as_bytes()).delivery).await
}

/// Hands a plain job over that has this long.
pub(crate) async fn deliver_within(handler: &Arc<dyn Handler>, limit: Duration) -> Ended {
    let mut given = given(PAYLOAD.as_bytes());
    given.delivery.timeout = Some(limit);
    handler.handle(given.delivery).await
}

/// Waits until `probe` gives a value, while the runtime goes on with everything else.
pub(crate) async fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn result(ended: &Ended) -> String {
    match &ended.outcome {
        Outcome::Complete { result: Some(Output::Text(text)) } => text.clone(),
        Outcome::Complete { result: Some(Output::Json(json)) } => String::from_utf8(json.clone()).unwrap(),
        other => panic!("no result: {other:?}, {:?}", ended.notes),
    }
}

pub(crate) fn is_complete(ended: &Ended) -> bool {
    matches!(ended.outcome, Outcome::Complete { .. })
}

pub(crate) fn reason(ended: &Ended) -> &Reason {
    match &ended.outcome {
        Outcome::Retry { reason, .. }
        | Outcome::Snooze { reason, .. }
        | Outcome::Fail { reason }
        | Outcome::Discard { reason }
        | Outcome::Crashed { reason } => reason,
        other => panic!("no reason: {other:?}"),
    }
}

pub(crate) fn retry_class(ended: &Ended) -> &str {
    match &ended.outcome {
        Outcome::Retry { reason, .. } => reason.class.as_deref().unwrap_or_default(),
        other => panic!("no retry: {other:?}"),
    }
}

/// Seconds and scope of a snooze.
pub(crate) fn snooze(ended: &Ended) -> (u64, Scope) {
    match &ended.outcome {
        Outcome::Snooze { when: When::After(wait), scope, .. } => (wait.as_secs(), *scope),
        other => panic!("no snooze: {other:?}"),
    }
}

/// A receiver that hears everything, answers nothing, and knows who hung up.
#[derive(Debug)]
pub(crate) struct Mute {
    pub(crate) url: String,
    pub(crate) heard: Arc<AtomicUsize>,
    pub(crate) hung_up: Arc<AtomicUsize>,
}

impl Mute {
    pub(crate) async fn listening() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (heard, hung_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mute = Self { url, heard: Arc::clone(&heard), hung_up: Arc::clone(&hung_up) };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (heard, hung_up) = (Arc::clone(&heard), Arc::clone(&hung_up));
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    let mut first = true;
                    while let Ok(1..) = stream.read(&mut bytes).await {
                        heard.fetch_add(usize::from(std::mem::take(&mut first)), Ordering::SeqCst);
                    }
                    hung_up.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        mute
    }
}

/// A name service that answers as told, in turn, the last answer for ever.
#[derive(Debug)]
pub(crate) struct Told(Mutex<Vec<Vec<IpAddr>>>);

impl Told {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(addresses).collect())))
    }
}

#[async_trait]
impl Names for Told {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        let answer =
            if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() };
        if answer.is_empty() { Err(io::Error::other("no such host")) } else { Ok(answer) }
    }
}
