//! What strangers send, kind by kind, each with the counters that it must move.

use wire_format::SEALED_HEADER_BYTES;

/// Numbers without a library (SplitMix64).
pub struct Draws(u64);

impl Draws {
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn within(&mut self, from: u64, end: u64) -> usize {
        (from + self.bits() % (end - from)) as usize
    }

    fn fill(&mut self, bytes: &mut Vec<u8>, len: usize) {
        while bytes.len() < len {
            bytes.extend(self.bits().to_le_bytes());
        }
        bytes.truncate(len);
    }
}

type Forge = fn(samples: &[Vec<u8>], number: u64, draws: &mut Draws, bytes: &mut Vec<u8>);

/// A kind of hostile datagram.
pub struct Kind {
    pub name: &'static str,
    /// Its part of all datagrams.
    pub share: u64,
    /// Addresses and ports that it comes from.
    pub sources: u64,
    /// Part of the whole rate at which it is sent, percent: what is expensive to carry comes slower.
    rate_pct: u64,
    /// Counters that its datagrams are found in, each in one of them.
    pub counters: &'static [&'static str],
    /// What others may add to these counters meanwhile.
    pub others: u64,
    /// What a source may get back, as a part of what it sent.
    pub answered_max: f64,
    pub forge: Forge,
}

impl Kind {
    pub fn rate(&self, whole: u64) -> u64 {
        (whole * self.rate_pct / 100).max(100)
    }
}

/// All kinds, in the order of attack.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "random bytes",
        share: 30,
        sources: 4_096,
        rate_pct: 100,
        counters: &[
            "port quic_in",
            "port drop_unknown_kind",
            "port drop_malformed",
            "port drop_unknown_receiver",
            "port drop_rtp",
            "port drop_stun",
        ],
        // Real QUIC packets of the links.
        others: 2_000,
        answered_max: 1.0,
        forge: |_, _, draws, bytes| {
            let len = draws.within(0, 300);
            draws.fill(bytes, len);
        },
    },
    Kind {
        name: "QUIC garbage",
        share: 5,
        sources: 512,
        rate_pct: 100,
        counters: &["port quic_in"],
        others: 2_000,
        answered_max: 1.0,
        forge: |_, _, draws, bytes| {
            // Long headers of any version or short ones, with any connection id.
            bytes.push([0xC0, 0xE3, 0x40, 0x5F][draws.within(0, 4)]);
            let version = [0, 1, 0x6B33_43CF, draws.bits() as u32][draws.within(0, 4)];
            bytes.extend(version.to_be_bytes());
            bytes.push(draws.within(0, 21) as u8);
            let len = draws.within(30, 1_452);
            draws.fill(bytes, len);
        },
    },
    Kind {
        name: "changed sealed datagrams",
        share: 20,
        sources: 512,
        rate_pct: 100,
        counters: &["port drop_failed_open"],
        others: 0,
        answered_max: 1.0,
        forge: |samples, number, draws, bytes| {
            ahead(samples, number, bytes);
            for _ in 0..1 + draws.bits() % 4 {
                let at = draws.within(SEALED_HEADER_BYTES as u64, bytes.len() as u64);
                bytes[at] ^= 1 << (draws.bits() % 8);
            }
            // Four flips may undo each other.
            bytes[SEALED_HEADER_BYTES] ^= 0x80;
        },
    },
    Kind {
        name: "replayed sealed datagrams",
        share: 20,
        sources: 512,
        rate_pct: 100,
        counters: &["port drop_replayed"],
        others: 0,
        answered_max: 1.0,
        forge: |samples, number, _, bytes| bytes.extend(&samples[number as usize % samples.len()]),
    },
    Kind {
        name: "truncated sealed datagrams",
        share: 10,
        sources: 512,
        rate_pct: 100,
        counters: &["port drop_malformed", "port drop_failed_open"],
        others: 0,
        answered_max: 1.0,
        forge: |samples, number, draws, bytes| {
            ahead(samples, number, bytes);
            let len = draws.within(1, bytes.len() as u64);
            bytes.truncate(len);
        },
    },
    Kind {
        name: "oversize datagrams",
        share: 2,
        sources: 256,
        rate_pct: 20,
        counters: &["port drop_failed_open"],
        others: 0,
        answered_max: 1.0,
        forge: |samples, number, draws, bytes| {
            ahead(samples, number, bytes);
            let len = draws.within(1_453, 9_000);
            draws.fill(bytes, len);
        },
    },
    Kind {
        name: "unknown receiver index",
        share: 8,
        sources: 1_024,
        rate_pct: 100,
        counters: &["port drop_unknown_receiver"],
        others: 0,
        answered_max: 1.0,
        forge: |samples, number, draws, bytes| {
            bytes.extend(&samples[number as usize % samples.len()]);
            // The high bits are random and compared, the low ones are the place of a link.
            bytes[1] ^= 1 + (draws.bits() % 255) as u8;
        },
    },
    Kind {
        name: "plain RTP of strangers",
        share: 5,
        sources: 1_024,
        rate_pct: 100,
        counters: &["port drop_rtp"],
        others: 0,
        answered_max: 1.0,
        forge: |_, number, draws, bytes| {
            bytes.extend([0x80, 96]);
            bytes.extend((number as u16).to_be_bytes());
            let len = draws.within(12, 1_200);
            draws.fill(bytes, len);
        },
    },
    Kind {
        name: "STUN garbage",
        share: 5,
        sources: 1_024,
        rate_pct: 100,
        counters: &["port drop_stun"],
        others: 0,
        answered_max: 1.0,
        forge: |_, _, draws, bytes| {
            bytes.extend([(draws.bits() % 4) as u8, 0xFF]);
            let len = draws.within(2, 120);
            draws.fill(bytes, len);
        },
    },
    Kind {
        name: "STUN binding requests",
        share: 5,
        sources: 1_024,
        rate_pct: 100,
        counters: &["port stun_answered", "port drop_stun_rate"],
        others: 0,
        answered_max: 1.6,
        forge: |_, _, draws, bytes| {
            bytes.extend([0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
            draws.fill(bytes, 20);
        },
    },
];

/// A captured datagram, with a number that its link has not reached: it is new, so it must be opened to be refused.
fn ahead(samples: &[Vec<u8>], number: u64, bytes: &mut Vec<u8>) {
    bytes.extend(&samples[number as usize % samples.len()]);
    let ahead = 1_000_000 + number % 2_000_000;
    bytes[5..SEALED_HEADER_BYTES].copy_from_slice(&ahead.to_be_bytes());
}
