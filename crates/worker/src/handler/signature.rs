//! Signs deliveries as Standard Webhooks 1.0 says: `v1` is HMAC-SHA-256, `v1a` is Ed25519.
//!
//! Pure: which keys are valid is asked with the delivery's own time.

use std::fmt;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use qfleet_manifest::handler::SigningKey;
use qfleet_model::time::WallTime;
use ring::hmac;
use ring::signature::Ed25519KeyPair;

const MOST_KEYS: usize = 3;
/// Secrets are copied by hand: padding that got lost says nothing about the key.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys of one handler, newest first.
#[derive(Debug, Default)]
pub(crate) struct Signer {
    keys: Vec<Key>,
}

struct Key {
    kind: KeyKind,
    from: Option<WallTime>,
    until: Option<WallTime>,
}

enum KeyKind {
    Hmac(hmac::Key),
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    /// Reads the keys.
    ///
    /// # Errors
    /// Which key is wrong and why, without showing it.
    pub(crate) fn new(keys: &[SigningKey]) -> Result<Self, String> {
        let read = |(place, key): (usize, &SigningKey)| {
            let kind =
                read_key(key.secret.reveal()).map_err(|why| format!("signing key {} {why}", place + 1))?;
            Ok(Key { kind, from: key.from, until: key.until })
        };
        Ok(Self { keys: keys.iter().enumerate().map(read).collect::<Result<_, String>>()? })
    }

    /// The value of `webhook-signature`; nothing when no key is valid at that time.
    pub(crate) fn sign(&self, id: &str, at: WallTime, body: &[u8]) -> Option<String> {
        let mut text = format!("{id}.{}.", at.as_seconds()).into_bytes();
        text.extend_from_slice(body);
        let parts: Vec<String> = self.valid(at).take(MOST_KEYS).map(|key| key.kind.sign(&text)).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    /// The value of `X-Hub-Signature-256`, made with the newest valid HMAC key.
    pub(crate) fn sign_for_github(&self, at: WallTime, body: &[u8]) -> Option<String> {
        let key = self.valid(at).find_map(|key| match &key.kind {
            KeyKind::Hmac(key) => Some(key),
            KeyKind::Ed25519(_) => None,
        })?;
        let hex: String = hmac::sign(key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("sha256={hex}"))
    }

    fn valid(&self, at: WallTime) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            key.from.is_none_or(|from| from <= at) && key.until.is_none_or(|until| at < until)
        })
    }
}

impl KeyKind {
    fn sign(&self, text: &[u8]) -> String {
        match self {
            Self::Hmac(key) => format!("v1,{}", STANDARD.encode(hmac::sign(key, text))),
            Self::Ed25519(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(text))),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            KeyKind::Hmac(_) => "v1",
            KeyKind::Ed25519(_) => "v1a",
        };
        write!(out, "{scheme} key •••")
    }
}

fn read_key(secret: &str) -> Result<KeyKind, &'static str> {
    let decode = |text: &str| FORGIVING.decode(text.trim()).map_err(|_| "is not base64 after its prefix");
    if let Some(text) = secret.strip_prefix("whsec_") {
        let bytes = decode(text)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err("must have 24 to 64 bytes");
        }
        return Ok(KeyKind::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
    }
    let text = secret.strip_prefix("whsk_").ok_or("must begin with `whsec_` or `whsk_`")?;
    let bytes = decode(text)?;
    let pair = match bytes.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
        // Some tools write the public half behind the seed.
        64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
        _ => return Err("must have 32 bytes, or 64 with the public key"),
    };
    pair.map(|pair| KeyKind::Ed25519(Box::new(pair))).map_err(|_| "is not an Ed25519 key")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qfleet_manifest::secret::Secret;
    use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

    use super::*;

    const CURRENT: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OLD: &str = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    const ID: &str = "job_szEVgbBjEovduKoVbkxYvA";
    const BODY: &[u8] = br#"{"campaign":77,"batch":3}"#;
    const AT: WallTime = WallTime::from_seconds(1_767_225_605);

    fn key(secret: &str) -> SigningKey {
        SigningKey { secret: Secret::new(secret), from: None, until: None }
    }

    fn signer(secrets: &[&str]) -> Signer {
        Signer::new(&secrets.iter().map(|secret| key(secret)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_signatures_of_the_contract() {
        let one = "v1,IYYFoZIopCSDDqf2fOAzDgFBHmigRsrrw3UPprxGS6Q=";
        let other = "v1,XSGtAGvwN2DzipVpn9DxrNFljzZswvAQYtECcPP7gtw=";
        assert_eq!(signer(&[CURRENT]).sign(ID, AT, BODY).unwrap(), one);
        assert_eq!(signer(&[CURRENT, OLD]).sign(ID, AT, BODY).unwrap(), format!("{one} {other}"));
    }

    #[test]
    fn any_bytes_and_no_bytes_are_signed() {
        let body = [0xFF, 0x00, 0x80, b'.', 0xC3];
        let key = hmac::Key::new(hmac::HMAC_SHA256, &(0..32).collect::<Vec<u8>>());
        for body in [&body[..], b""] {
            let signature = signer(&[CURRENT]).sign(ID, AT, body).unwrap();
            let mut text = format!("{ID}.1767225605.").into_bytes();
            text.extend_from_slice(body);
            let tag = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
            hmac::verify(&key, &text, &tag).unwrap();
        }
    }

    #[test]
    fn an_ed25519_signature_verifies_with_the_public_key() {
        let seed: Vec<u8> = (0..32).collect();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let both = [seed.clone(), public.clone()].concat();
        for secret in [seed, both] {
            let signature =
                signer(&[&format!("whsk_{}", STANDARD.encode(secret))]).sign(ID, AT, BODY).unwrap();
            let bytes = STANDARD.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
            let text = [format!("{ID}.1767225605.").as_bytes(), BODY].concat();
            UnparsedPublicKey::new(&ED25519, &public).verify(&text, &bytes).unwrap();
        }
    }

    #[test]
    fn only_keys_that_are_valid_sign_and_at_most_three() {
        let second = WallTime::from_seconds;
        let keys = [
            SigningKey { from: Some(second(AT.as_seconds() + 1)), ..key(CURRENT) },
            SigningKey { from: Some(AT), ..key(CURRENT) },
            SigningKey { until: Some(AT), ..key(OLD) },
            SigningKey { until: Some(second(AT.as_seconds() + 1)), ..key(OLD) },
        ];
        let signed = Signer::new(&keys).unwrap().sign(ID, AT, BODY).unwrap();
        assert_eq!(signed, signer(&[CURRENT, OLD]).sign(ID, AT, BODY).unwrap());
        let four = signer(&[CURRENT, CURRENT, CURRENT, CURRENT]).sign(ID, AT, BODY).unwrap();
        assert_eq!(four.split(' ').count(), 3);
        assert_eq!(Signer::new(&keys[..1]).unwrap().sign(ID, AT, BODY), None);
    }

    #[test]
    fn github_receivers_get_the_body_signed_by_the_first_key() {
        // openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f over the body
        let signed = signer(&[CURRENT, OLD]).sign_for_github(AT, BODY).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &(0..32).collect::<Vec<u8>>());
        let hex = signed.strip_prefix("sha256=").unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        hmac::verify(&key, BODY, &bytes).unwrap();
    }

    #[test]
    fn wrong_keys_are_named_and_not_shown() {
        for (secret, why) in [
            ("hunter2", "must begin with `whsec_` or `whsk_`"),
            ("whsec_???", "is not base64 after its prefix"),
            ("whsec_AAECAw==", "must have 24 to 64 bytes"),
            ("whsk_AAECAw==", "must have 32 bytes, or 64 with the public key"),
        ] {
            let error = Signer::new(&[key(CURRENT), key(secret)]).unwrap_err();
            assert_eq!(error, format!("signing key 2 {why}"));
        }
        assert!(!format!("{:?}", signer(&[CURRENT])).contains("AAEC"));
    }
}
