//! `version`: of this binary, and of the daemon where there is one.

use qfleet_api::ClientError;
use qfleet_api::protocol::Version;
use serde_json::json;

use super::Asking;
use crate::exit::Exit;

pub(super) async fn run(asking: &Asking) -> Result<Exit, ClientError> {
    let own = env!("CARGO_PKG_VERSION");
    let socket = asking.client.path().display();
    let daemon = match asking.client.get::<Version>("version").await {
        Ok(version) => Some(version.version),
        Err(ClientError::NoDaemon(_)) => None,
        Err(error) => return Err(error),
    };
    if asking.printer.json {
        asking.printer.value(&json!({"version": own, "daemon": daemon, "socket": socket.to_string()}));
        return Ok(Exit::Done);
    }
    asking.printer.line(format!("qfleet {own}"));
    asking.printer.line(match &daemon {
        Some(version) => format!("daemon {version} at `{socket}`"),
        None => format!("no daemon at `{socket}`"),
    });
    if daemon.is_some_and(|version| version != own) {
        asking
            .printer
            .note("the daemon runs another version than this binary; it changes when it is restarted");
    }
    Ok(Exit::Done)
}
