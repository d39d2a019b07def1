//! What plain RTP registrations need from the host: which networks they may name, and sockets of their own.

use control_proto::cli::ConfigError;
use link_io::PlainSocket;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Tries to find two neighbouring ports among those that the system chooses.
const PAIR_TRIES: usize = 64;

/// Where plain RTP may come from and go to, and by which ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlainConfig {
    /// Sources and destinations must be in one of these.
    pub networks: Vec<Network>,
    /// Ports of registrations that want their own; `None` takes any that the system gives.
    pub ports: Option<RangeInclusive<u16>>,
}

impl Default for PlainConfig {
    /// Loopback, any port.
    fn default() -> PlainConfig {
        let v4 = Network { address: Ipv4Addr::new(127, 0, 0, 0).into(), prefix: 8 };
        let v6 = Network { address: Ipv6Addr::LOCALHOST.into(), prefix: 128 };
        PlainConfig { networks: vec![v4, v6], ports: None }
    }
}

impl PlainConfig {
    pub(crate) fn checked(networks: &[String], ports: Option<&str>) -> Result<PlainConfig, ConfigError> {
        let mut config = PlainConfig::default();
        if !networks.is_empty() {
            let parsed = networks.iter().map(|text| {
                text.parse().map_err(|problem: &str| ConfigError::value("plain_networks", text, problem))
            });
            config.networks = parsed.collect::<Result<_, _>>()?;
        }
        if let Some(text) = ports {
            let range = text.split_once('-').and_then(|(first, last)| {
                Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
            });
            let Some((first, last)) = range.filter(|(first, last)| *first > 0 && first < last) else {
                let problem = "give FIRST-LAST, for instance 40000-40999";
                return Err(ConfigError::value("plain_ports", text, problem));
            };
            config.ports = Some(first..=last);
        }
        Ok(config)
    }

    pub(crate) fn allows(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(ip))
    }

    /// The networks, for people.
    pub(crate) fn networks_text(&self) -> String {
        let texts: Vec<_> = self.networks.iter().map(Network::to_string).collect();
        texts.join(", ")
    }

    /// One socket, or two: for RTP an even port where there is one, for RTCP the port after it. `turn` says where in the
    /// configured range the search begins.
    pub(crate) fn bind(&self, ip: IpAddr, two: bool, turn: u32) -> io::Result<Vec<PlainSocket>> {
        match &self.ports {
            Some(range) => bind_within(ip, range, two, turn),
            None if two => bind_pair(ip),
            None => Ok(vec![PlainSocket::bind(SocketAddr::new(ip, 0))?]),
        }
    }
}

fn bind_within(
    ip: IpAddr,
    range: &RangeInclusive<u16>,
    two: bool,
    turn: u32,
) -> io::Result<Vec<PlainSocket>> {
    let first = u32::from(*range.start());
    let count = u32::from(*range.end()) - first + 1;
    let step = if two { 2 } else { 1 };
    // Pairs begin at even ports.
    let first = if two { first.next_multiple_of(2) } else { first };
    let slots = (count.saturating_sub(first - u32::from(*range.start()))) / step;
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for slot in 0..slots {
        let port = (first + (slot + turn) % slots * step) as u16;
        let ports = if two { vec![port, port + 1] } else { vec![port] };
        let bound = ports.into_iter().map(|port| PlainSocket::bind(SocketAddr::new(ip, port)));
        match bound.collect::<io::Result<Vec<_>>>() {
            Ok(sockets) => return Ok(sockets),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn bind_pair(ip: IpAddr) -> io::Result<Vec<PlainSocket>> {
    for _ in 0..PAIR_TRIES {
        let rtp = PlainSocket::bind(SocketAddr::new(ip, 0))?;
        let port = rtp.local_addr().port();
        if port % 2 == 0
            && let Ok(rtcp) = PlainSocket::bind(SocketAddr::new(ip, port + 1))
        {
            return Ok(vec![rtp, rtcp]);
        }
    }
    // Crowded: any two will do, the answer names both.
    Ok(vec![PlainSocket::bind(SocketAddr::new(ip, 0))?, PlainSocket::bind(SocketAddr::new(ip, 0))?])
}

/// The address of this host that a peer sees. Nothing is sent.
pub(crate) fn address_towards(peer: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port: only the route to the host matters.
    socket.connect((peer, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// Whether an address is this host's.
pub(crate) fn is_of_this_host(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// A network: an address and the number of its leading bits that count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let shift = |bits: u32| bits - u32::from(self.prefix).min(bits);
        match (self.address, ip) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                (u32::from(network) ^ u32::from(ip)).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                (u128::from(network) ^ u128::from(ip)).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Network, &'static str> {
        const PROBLEM: &str = "give ADDRESS/BITS, for instance 10.0.0.0/8 or fd00::/8, or one address";
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| PROBLEM)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = bits.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| PROBLEM))?;
        if prefix > most {
            return Err("there are not so many bits in an address");
        }
        Ok(Network { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_shares_its_leading_bits() {
        for (network, ip, inside) in [
            ("127.0.0.0/8", "127.255.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "2001:db8::1", true),
        ] {
            let parsed: Network = network.parse().expect("a network");
            assert_eq!(parsed.contains(ip.parse().expect("an address")), inside, "{ip} in {network}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "host/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_begin_at_even_ports_and_the_range_is_used_up() {
        let ip: IpAddr = Ipv4Addr::LOCALHOST.into();
        let pair = PlainConfig::default().bind(ip, true, 0).expect("two ports");
        let ports: Vec<_> = pair.iter().map(|socket| socket.local_addr().port()).collect();
        assert_eq!((ports[0] % 2, ports[1]), (0, ports[0] + 1));
        // What another process has meanwhile is not ours to take; the range is that of the pair just given back.
        drop(pair);
        let range = PlainConfig { ports: Some(ports[0]..=ports[1]), ..PlainConfig::default() };
        let first = range.bind(ip, false, 1).expect("free");
        let second = range.bind(ip, false, 1).expect("free");
        assert_eq!(first[0].local_addr().port() ^ second[0].local_addr().port(), 1);
        assert!(range.bind(ip, false, 0).is_err() && range.bind(ip, true, 0).is_err());
    }

    #[test]
    fn settings_are_checked() {
        let config = PlainConfig::checked(&["10.0.0.0/8".to_owned()], Some("40000-40999")).expect("legal");
        assert!(config.allows([10, 1, 1, 1].into()) && !config.allows([127, 0, 0, 1].into()));
        assert_eq!(config.ports, Some(40_000..=40_999));
        for ports in ["", "40000", "0-9", "9-9", "5-4", "1-70000"] {
            assert!(PlainConfig::checked(&[], Some(ports)).is_err(), "{ports}");
        }
        assert!(PlainConfig::checked(&["loopback".to_owned()], None).is_err());
    }
}
