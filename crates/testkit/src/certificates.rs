//! A certificate authority and what it signed, made by `openssl` for one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Files in PEM form: an authority of our own, and a certificate for `localhost` and 127.0.0.1 for servers and clients.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate, which a client must trust.
    pub ca: PathBuf,
    /// The certificate the authority signed.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in a directory that exists; valid for two days.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        let made = Self { ca: dir.join("ca.crt"), cert: dir.join("server.crt"), key: dir.join("server.key") };
        let request = dir.join("server.csr");
        let extensions = dir.join("server.ext");
        std::fs::write(&extensions, "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
            .expect("a file beside the certificates");
        let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        openssl(
            Command::new("openssl")
                .args(["req", "-x509", "-days", "2", "-subj", "/CN=qfleet test authority"])
                .args(new_key)
                .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
                .arg("-keyout")
                .arg(dir.join("ca.key"))
                .arg("-out")
                .arg(&made.ca),
        );
        openssl(
            Command::new("openssl")
                .args(["req", "-subj", "/CN=localhost"])
                .args(new_key)
                .arg("-keyout")
                .arg(&made.key)
                .arg("-out")
                .arg(&request),
        );
        openssl(
            Command::new("openssl")
                .args(["x509", "-req", "-days", "2", "-CAcreateserial"])
                .arg("-in")
                .arg(&request)
                .arg("-CA")
                .arg(&made.ca)
                .arg("-CAkey")
                .arg(dir.join("ca.key"))
                .arg("-extfile")
                .arg(&extensions)
                .arg("-out")
                .arg(&made.cert),
        );
        made
    }
}

fn openssl(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("cannot start `openssl` (`make test` installs what is needed): {error}")
    });
    assert!(output.status.success(), "`openssl` failed: {}", String::from_utf8_lossy(&output.stderr));
}
