//! Which addresses may be connected to, decided on the very addresses that are then used.
//!
//! The URL comes from the operator alone, but what its host name means is up to a name server. So the check is part of
//! looking up the name for each connection, and no second look-up happens in between.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks up host names.
#[async_trait]
pub trait Names: Send + Sync + fmt::Debug {
    /// Every address of a name, in the order to try them.
    ///
    /// # Errors
    /// The name is not known, or nobody could be asked.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Asks the system, as every other program does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// What may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    /// Only these networks; empty: all but the always refused ones.
    pub(super) only: Vec<(IpAddr, u8)>,
    /// Nothing that everybody on the way could read goes to a public address.
    pub(super) private_only: bool,
}

/// An address that must not be connected to, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// The host as the URL names it, and what is wrong.
    text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

impl Policy {
    /// Checks the address of a host.
    pub(super) fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let refused = |why: &str| Err(Refused { text: format!("`{host}` is at {address}, {why}") });
        let seen = embedded(address).map_or(address, IpAddr::V4);
        match kind(seen) {
            Kind::Never(why) => return refused(why),
            Kind::Public if self.private_only => {
                return refused("a public address; use https, or set `allow-plain-http: true`");
            }
            Kind::Public | Kind::Private => {}
        }
        if !self.only.is_empty() && !self.only.iter().any(|network| contains(*network, seen)) {
            return refused("which is in none of `allow-networks`");
        }
        Ok(())
    }

    /// Those of a name's addresses that may be connected to.
    fn permitted(&self, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
        let mut first_refused = None;
        let mut permitted = Vec::with_capacity(addresses.len());
        for address in addresses {
            match self.check(host, address) {
                Ok(()) => permitted.push(address),
                Err(refused) => first_refused = first_refused.or(Some(refused)),
            }
        }
        match first_refused {
            Some(refused) if permitted.is_empty() => Err(refused),
            _ => Ok(permitted),
        }
    }
}

/// Looks names up for the HTTP client and hands over permitted addresses only.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) names: Arc<dyn Names>,
    pub(super) policy: Policy,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { names, policy } = self.clone();
        Box::pin(async move {
            let addresses = names.addresses(name.as_str()).await?;
            let permitted = policy.permitted(name.as_str(), addresses)?;
            // The client puts the URL's port in the place of 0.
            Ok(Box::new(permitted.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

enum Kind {
    Never(&'static str),
    Private,
    Public,
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> Kind {
    let within = |network: [u8; 4], bits| contains((IpAddr::from(network), bits), IpAddr::V4(address));
    if within([169, 254, 0, 0], 16) {
        return Kind::Never("which is link-local");
    }
    if [[100, 100, 100, 200], [192, 0, 0, 192]].iter().any(|metadata| within(*metadata, 32)) {
        return Kind::Never("where a cloud keeps its metadata");
    }
    if within([0, 0, 0, 0], 8) {
        return Kind::Never("which is unspecified");
    }
    if within([224, 0, 0, 0], 4) {
        return Kind::Never("which is multicast");
    }
    let reserved = [
        ([240, 0, 0, 0], 4),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
    ];
    if reserved.iter().any(|(network, bits)| within(*network, *bits)) {
        return Kind::Never("which is reserved");
    }
    if address.is_loopback() || address.is_private() || within([100, 64, 0, 0], 10) {
        return Kind::Private;
    }
    Kind::Public
}

fn kind_v6(address: Ipv6Addr) -> Kind {
    let within = |network: [u16; 8], bits| contains((IpAddr::from(network), bits), IpAddr::V6(address));
    if within([0xFE80, 0, 0, 0, 0, 0, 0, 0], 10) {
        return Kind::Never("which is link-local");
    }
    if within([0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254], 128) {
        return Kind::Never("where a cloud keeps its metadata");
    }
    if address.is_unspecified() {
        return Kind::Never("which is unspecified");
    }
    if address.is_multicast() {
        return Kind::Never("which is multicast");
    }
    let reserved = [
        ([0xFEC0, 0, 0, 0, 0, 0, 0, 0], 10),
        ([0x100, 0, 0, 0, 0, 0, 0, 0], 64),
        ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        ([0x2001, 0xDB8, 0, 0, 0, 0, 0, 0], 32),
        ([0x3FFF, 0, 0, 0, 0, 0, 0, 0], 20),
    ];
    if reserved.iter().any(|(network, bits)| within(*network, *bits)) {
        return Kind::Never("which is reserved");
    }
    if address.is_loopback() || within([0xFC00, 0, 0, 0, 0, 0, 0, 0], 7) {
        return Kind::Private;
    }
    Kind::Public
}

/// The IPv4 address that an IPv6 one stands for: mapped, compatible, NAT64 and 6to4.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

fn contains((network, bits): (IpAddr, u8), address: IpAddr) -> bool {
    let same = |network: u128, address: u128, width: u8| {
        let bits = bits.min(width);
        bits == 0 || (network ^ address) >> (width - bits) == 0
    };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            same(u128::from(network.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => same(network.to_bits(), address.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ANY: Policy = Policy { only: Vec::new(), private_only: false };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn some_addresses_are_never_connected_to() {
        for text in [
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.0.192",
            "100.100.100.200",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "fec0::1",
            "2001:db8::1",
            "100::1",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
        ] {
            for only in [vec![], vec![(address("0.0.0.0"), 0), (address("::"), 0)]] {
                let policy = Policy { only, private_only: false };
                assert!(policy.check("host", address(text)).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn private_and_public_addresses_are_allowed() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert_eq!(ANY.check("host", address(text)), Ok(()), "{text}");
            assert_eq!(Policy { private_only: true, ..ANY }.check("host", address(text)), Ok(()), "{text}");
        }
        for text in ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "172.32.0.1"] {
            assert_eq!(ANY.check("host", address(text)), Ok(()), "{text}");
            let error =
                Policy { private_only: true, ..ANY }.check("host", address(text)).unwrap_err().to_string();
            assert!(error.contains("allow-plain-http"), "{error}");
        }
    }

    #[test]
    fn networks_narrow_what_is_allowed() {
        let policy =
            Policy { only: vec![(address("10.1.0.0"), 16), (address("fd00::"), 8)], private_only: false };
        for (text, allowed) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("fd12::1", true),
            ("::1", false),
            ("::ffff:10.1.0.1", true),
            ("8.8.8.8", false),
        ] {
            assert_eq!(policy.check("host", address(text)).is_ok(), allowed, "{text}");
        }
    }

    #[test]
    fn of_several_addresses_only_the_permitted_ones_are_used() {
        let several = |texts: &[&str]| texts.iter().map(|text| address(text)).collect::<Vec<_>>();
        let mixed = several(&["169.254.169.254", "10.0.0.1", "::ffff:127.0.0.1"]);
        assert_eq!(ANY.permitted("host", mixed).unwrap(), several(&["10.0.0.1", "::ffff:127.0.0.1"]));
        let refused = ANY.permitted("meta.internal", several(&["169.254.169.254", "fe80::1"])).unwrap_err();
        assert_eq!(refused.to_string(), "`meta.internal` is at 169.254.169.254, which is link-local");
        assert_eq!(ANY.permitted("host", vec![]), Ok(vec![]));
    }
}
