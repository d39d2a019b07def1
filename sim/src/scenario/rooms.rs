//! Calls of many users who come and go, written as a crowd instead of one by one.

use super::read::{FileReader, duration, in_range};
use super::rhythm::call;
use super::{
    ClientId, ClientSpec, Host, RelayId, Rhythm, Scenario, ScenarioError, StreamSpec, SubscriptionSpec, keys,
};
use link_model::{LinkSchedule, LinkSpec, Seed, Xoshiro256};
use relay_core::ClientRights;
use std::time::Duration;
use wire_format::{MediaKind, RTP_BYTES_MAX};

const PLACE: &str = "[[rooms]]";
const VIDEO_PACKET_BYTES: u32 = 1_200;
const PICTURES_PER_S: u32 = 25;
const AUDIO_PER_S: u32 = 50;
const AUDIO_BYTES: u32 = 120;
/// Who comes does so within this; a seat that was left is empty for at most this.
const PAUSE: Duration = Duration::from_secs(5);
/// Nobody comes for less.
const STAY_MIN: Duration = Duration::from_secs(2);

/// Rooms of one kind.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// What their names begin with.
    pub name: String,
    /// Tenant.
    pub namespace: String,
    /// How many there are at the same time.
    pub count: u32,
    /// Least and most users of a room.
    pub users: (u32, u32),
    /// How long a user stays in the mean; then another one comes, elsewhere. `None`: to the end.
    pub stay: Option<Duration>,
    /// What each user publishes; everyone subscribes to the whole room.
    pub media: Vec<RoomMedia>,
    /// Delay budget of all streams.
    pub budget: Option<Duration>,
    /// All streams ask for two disjoint ways at once.
    pub protect: bool,
}

/// A stream of each user.
#[derive(Clone, Debug)]
pub struct RoomMedia {
    /// `cam` or `mic`.
    pub name: &'static str,
    /// What it carries.
    pub kind: MediaKind,
    /// When its packets leave, and how long they are.
    pub rhythm: Rhythm,
}

/// A user's time in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Visit {
    /// The relay next to the user's SFU.
    pub relay: RelayId,
    /// Comes then ...
    pub from: Duration,
    /// ... and leaves.
    pub until: Duration,
}

impl Rooms {
    pub(super) fn read(table: &keys::Rooms, read: FileReader<'_>) -> Result<Rooms, ScenarioError> {
        let time =
            |key, text: &Option<String>| text.as_deref().map(|text| duration(PLACE, key, text)).transpose();
        let (least, most) = table.users.split_once("..").unwrap_or((&table.users, &table.users));
        let users = least.trim().parse().ok().zip(most.trim().parse().ok());
        let users = users.filter(|(least, most)| 0 < *least && least <= most && *most <= 1_000);
        let users = users.ok_or_else(|| ScenarioError::Value {
            place: PLACE,
            key: "users",
            value: table.users.clone(),
            problem: "expected a number of users, or a range as \"2..12\", of 1 to 1000".to_owned(),
        })?;
        let mut media = Vec::new();
        match (&table.recording, table.video_kbps.unwrap_or(2_000)) {
            (Some(recording), _) => {
                let rhythm = call(recording, read)?;
                media.push(RoomMedia { name: "cam", kind: MediaKind::Video, rhythm });
            }
            (None, 0) => {}
            (None, kbps) => {
                let kbps = in_range(PLACE, "video_kbps", kbps, 20, 100_000)?;
                let picture_bytes = kbps * 1_000 / 8 / PICTURES_PER_S;
                let burst = picture_bytes.div_ceil(VIDEO_PACKET_BYTES).max(1);
                let bytes = (picture_bytes / burst).clamp(20, RTP_BYTES_MAX as u32);
                let interval = Duration::from_micros(1_000_000 / u64::from(PICTURES_PER_S));
                let spread = Duration::from_millis(1).min(interval / (burst + 1));
                let rhythm = Rhythm::Even { interval, burst, spread, bytes };
                media.push(RoomMedia { name: "cam", kind: MediaKind::Video, rhythm });
            }
        }
        if table.audio.unwrap_or(true) {
            let interval = Duration::from_micros(1_000_000 / u64::from(AUDIO_PER_S));
            let rhythm = Rhythm::Even { interval, burst: 1, spread: Duration::ZERO, bytes: AUDIO_BYTES };
            media.push(RoomMedia { name: "mic", kind: MediaKind::Audio, rhythm });
        }
        Ok(Rooms {
            name: table.name.clone(),
            namespace: table.namespace.clone().unwrap_or_else(|| "demo".to_owned()),
            count: in_range(PLACE, "count", table.count, 1, 100_000)?,
            users,
            stay: time("stay", &table.stay)?,
            media,
            budget: time("budget", &table.budget)?,
            protect: table.protect.unwrap_or(false),
        })
    }

    /// A room's name.
    #[must_use]
    pub fn room(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    fn seed(&self, seed: Seed, room: u32) -> Seed {
        seed.child("rooms").child(&self.name).numbered(room.into())
    }

    /// How many users a room has.
    #[must_use]
    pub fn seats(&self, seed: Seed, room: u32) -> u32 {
        let (least, most) = self.users;
        self.seed(seed, room).stream().within(least.into()..=most.into()) as u32
    }

    /// Who sits there, one after the other, in a scenario of so many relays and so long a time of media.
    #[must_use]
    pub fn visits(&self, seed: Seed, (room, seat): (u32, u32), relays: usize, end: Duration) -> Visits {
        let rng = self.seed(seed, room).child("seat").numbered(seat.into()).stream();
        Visits { rng, stay: self.stay, relays, at: Duration::ZERO, end }
    }
}

/// Visits to one seat.
#[derive(Clone, Debug)]
pub struct Visits {
    rng: Xoshiro256,
    stay: Option<Duration>,
    relays: usize,
    at: Duration,
    end: Duration,
}

impl Iterator for Visits {
    type Item = Visit;

    fn next(&mut self) -> Option<Visit> {
        let pause = Duration::from_micros(self.rng.within(0..=PAUSE.as_micros() as u64));
        let from = self.at + pause;
        let relay = RelayId(self.rng.within(0..=self.relays as u64 - 1) as u16);
        // As if nobody aged: most stay for less than the mean, some for much longer.
        let uniform = self.rng.within(1..=1_000_000) as f64 / 1e6;
        let until = self.stay.map_or(self.end, |mean| from + mean.mul_f64(-uniform.ln()).max(STAY_MIN));
        let until = until.min(self.end);
        self.at = until;
        (from + STAY_MIN <= self.end).then_some(Visit {
            relay,
            from,
            until: until.max(from + STAY_MIN).min(self.end),
        })
    }
}

/// Bits per second of RTP in the long run.
#[must_use]
pub(crate) fn bits_per_s(rhythm: &Rhythm) -> u64 {
    let packets = match rhythm {
        Rhythm::Even { burst, .. } => u64::from(*burst),
        Rhythm::Recorded(packets) => packets.len() as u64,
    };
    let time: Duration = (0..packets).map(|number| rhythm.wait_after(number)).sum();
    let bits: u64 = (0..packets).map(|number| u64::from(rhythm.bytes(number)) * 8).sum();
    (bits as f64 / time.as_secs_f64()) as u64
}

/// Clients and streams that rooms may bring to a packet-grain scenario.
const CLIENTS_MAX: usize = 2_000;

impl Scenario {
    /// Everyone in the rooms becomes a client with streams and a subscription.
    pub(super) fn move_in(&mut self) -> Result<(), ScenarioError> {
        let (seed, relays, end) = (Seed(self.seed), self.relays.len(), self.media_end());
        for rooms in self.rooms.clone() {
            for room in 0..rooms.count {
                for seat in 0..rooms.seats(seed, room) {
                    for (number, visit) in rooms.visits(seed, (room, seat), relays, end).enumerate() {
                        self.take_seat(&rooms, (room, seat, number), visit)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_seat(
        &mut self,
        rooms: &Rooms,
        (room, seat, number): (u32, u32, usize),
        visit: Visit,
    ) -> Result<(), ScenarioError> {
        if self.clients.len() >= CLIENTS_MAX {
            return Err(ScenarioError::Value {
                place: PLACE,
                key: "users",
                value: format!("{} rooms of {:?}", rooms.count, rooms.users),
                problem: format!(
                    "more than {CLIENTS_MAX} users come in this time; take fewer, let them stay longer, or use grain = \"flow\""
                ),
            });
        }
        let name = rooms.room(room);
        let user = format!("u{seat}.{number}");
        let client = ClientId(self.clients.len() as u16);
        self.clients.push(ClientSpec {
            name: format!("{name}-{user}"),
            relay: visit.relay,
            others: Vec::new(),
            rights: ClientRights {
                subject: format!("{name}-{user}"),
                namespace: rooms.namespace.clone(),
                room_pattern: "*".to_owned(),
                publish: true,
                subscribe: true,
                token: None,
            },
        });
        let edge =
            LinkSchedule::constant(LinkSpec { delay: Duration::from_millis(1), ..LinkSpec::default() });
        let (own, relay) = (Host::Client(client), Host::Relay(visit.relay));
        self.paths.insert((own, relay), edge.clone());
        self.paths.insert((relay, own), edge);
        for media in &rooms.media {
            self.streams.push(StreamSpec {
                client,
                room: name.clone(),
                user: user.clone(),
                name: media.name.to_owned(),
                kind: media.kind,
                rhythm: media.rhythm.clone(),
                budget: rooms.budget,
                protect: rooms.protect,
                priority: None,
                from: visit.from,
                until: visit.until,
            });
        }
        self.subscriptions.push(SubscriptionSpec {
            client,
            room: name,
            user: None,
            stream: None,
            from: visit.from,
            until: visit.until,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(text: &str) -> Result<Rooms, ScenarioError> {
        let table: keys::Rooms = toml::from_str(text).expect("the keys of rooms");
        Rooms::read(&table, &mut |_| unreachable!("no file"))
    }

    #[test]
    fn users_come_and_go_one_after_the_other() {
        let rooms = rooms("name = \"call\"\ncount = 3\nusers = \"2..5\"\nstay = \"60s\"").expect("legal");
        let end = Duration::from_secs(3_600);
        let mut stayed = Vec::new();
        for room in 0..3 {
            assert!((2..=5).contains(&rooms.seats(Seed(1), room)));
            let visits: Vec<_> = rooms.visits(Seed(1), (room, 0), 10, end).collect();
            assert!(visits.iter().all(|visit| visit.from < visit.until && visit.until <= end));
            assert!(visits.windows(2).all(|pair| pair[0].until <= pair[1].from));
            assert!(visits.iter().any(|visit| visit.relay != visits[0].relay));
            stayed.extend(visits.iter().map(|visit| (visit.until - visit.from).as_secs_f64()));
        }
        let mean = stayed.iter().sum::<f64>() / stayed.len() as f64;
        assert!((45.0..80.0).contains(&mean), "{mean} s of {} visits", stayed.len());
    }

    #[test]
    fn media_is_as_much_as_was_asked_for() {
        let rooms = rooms("name = \"call\"\ncount = 1\nusers = \"8\"").expect("legal");
        let rates: Vec<_> = rooms.media.iter().map(|media| bits_per_s(&media.rhythm)).collect();
        assert!((1_990_000..=2_000_000).contains(&rates[0]), "{rates:?}");
        assert_eq!(rates[1], 48_000);
        assert!(rooms_error("users = \"0\"").contains("users"));
        assert!(rooms_error("users = \"5..2\"").contains("as \"2..12\""));
        assert!(rooms_error("users = \"2\"\nvideo_kbps = 1").contains("20 to 100000"));
    }

    fn rooms_error(text: &str) -> String {
        rooms(&format!("name = \"call\"\ncount = 1\n{text}")).expect_err(text).to_string()
    }
}
