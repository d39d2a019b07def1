//! Keys of a scenario's tables, and the refusal of all others.

use super::ScenarioError;

/// Declares a table of a scenario: a struct that serde fills, and the names of its keys.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(serde::Deserialize)]
        pub(super) struct $name {
            $(pub(super) $field: $type,)*
        }

        impl $name {
            pub(super) const KEYS: &'static [&'static str] = &[$(stringify!($field)),*];
        }
    };
}

section! {
    /// The whole file.
    File {
        name: String,
        seed: Option<u64>,
        grain: Option<String>,
        run_for: String,
        mesh: Option<String>,
        mesh_max: Option<u32>,
        report_every: Option<String>,
        sample_every: Option<String>,
        topology: Option<Topology>,
        clients_link: Option<String>,
        controller_delay: Option<String>,
        index_quarantine: Option<String>,
        feed_gain: Option<String>,
        packets_from: Option<u64>,
        clock_drift_ppm: Option<u32>,
        policies_from: Option<String>,
        routing: Option<String>,
        stalls: Option<Stalls>,
        relay: Option<Vec<Relay>>,
        link: Option<Vec<Link>>,
        client: Option<Vec<Client>>,
        stream: Option<Vec<Stream>>,
        subscription: Option<Vec<Subscription>>,
        rooms: Option<Vec<Rooms>>,
        fault: Option<Vec<Fault>>,
        policy: Option<Vec<Policy>>,
        price: Option<Vec<Price>>,
        expect: Option<Expect>,
        routes: Option<Routes>,
    }
}
section! {
    Topology {
        matrix: Option<OneOrMore>,
        every: Option<String>,
        places: Option<String>,
        backbone: Option<String>,
        world: Option<bool>,
        relays: Option<u32>,
        seed: Option<u64>,
        is: Option<String>,
    }
}
section! {
    Rooms {
        name: String,
        count: u32,
        users: String,
        namespace: Option<String>,
        stay: Option<String>,
        video_kbps: Option<u32>,
        recording: Option<String>,
        audio: Option<bool>,
        budget: Option<String>,
        protect: Option<bool>,
    }
}
section! {
    Routes {
        oracle_gain_pct: Option<[f64; 3]>,
        gain_pct: Option<[f64; 2]>,
        direct_kept_pct: Option<f64>,
        worse_pct: Option<f64>,
        oracle_kept_pct: Option<f64>,
        over_two_relays_pct: Option<f64>,
        changes_per_hour: Option<f64>,
        optimum_factor: Option<f64>,
        unserved_pct: Option<f64>,
    }
}

/// One text, or a list.
#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}
section! {
    Stalls {
        shortest: String,
        longest: String,
        apart: String,
    }
}
section! {
    Relay {
        name: String,
        region: Option<String>,
        position: Option<[f64; 2]>,
    }
}
section! {
    Link {
        between: String,
        is: String,
        from: Option<String>,
    }
}
section! {
    Client {
        name: String,
        relay: String,
        others: Option<Vec<String>>,
        namespace: Option<String>,
        rooms: Option<String>,
        publish: Option<bool>,
        subscribe: Option<bool>,
    }
}
section! {
    Stream {
        client: String,
        room: String,
        user: String,
        stream: String,
        kind: wire_format::MediaKind,
        bursts_per_s: Option<u32>,
        burst: Option<u32>,
        spread: Option<String>,
        bytes: Option<u32>,
        recording: Option<String>,
        budget: Option<String>,
        protect: Option<bool>,
        priority: Option<String>,
        from: Option<String>,
        until: Option<String>,
    }
}
section! {
    Subscription {
        client: String,
        room: String,
        user: Option<String>,
        stream: Option<String>,
        from: Option<String>,
        until: Option<String>,
    }
}
section! {
    Fault {
        at: String,
        until: Option<String>,
        cut: Option<String>,
        crash: Option<String>,
        leave: Option<String>,
        isolate: Option<String>,
        mute: Option<String>,
        freeze: Option<String>,
        hostile: Option<String>,
        drain: Option<String>,
    }
}
section! {
    Policy {
        name: String,
        namespaces: Option<Vec<String>>,
        delay_pct: Option<u32>,
        load_pct: Option<u32>,
        money_pct: Option<u32>,
        forbid: Option<Vec<String>>,
        emergency: Option<Vec<String>>,
        pins: Option<Vec<String>>,
        protect_audio: Option<bool>,
        relief: Option<String>,
    }
}
section! {
    Price {
        from: String,
        to: String,
        cents_per_gb: u64,
    }
}
section! {
    Expect {
        recover_within: String,
        reroute_within: Option<String>,
        gap_max: Option<String>,
        join_within: Option<String>,
        settled_within: Option<String>,
        delivered_min: u64,
    }
}

/// Tables within the file, their keys.
const TABLES: [(&str, &[&str]); 13] = [
    ("topology", Topology::KEYS),
    ("rooms", Rooms::KEYS),
    ("routes", Routes::KEYS),
    ("stalls", Stalls::KEYS),
    ("relay", Relay::KEYS),
    ("link", Link::KEYS),
    ("client", Client::KEYS),
    ("stream", Stream::KEYS),
    ("subscription", Subscription::KEYS),
    ("fault", Fault::KEYS),
    ("policy", Policy::KEYS),
    ("price", Price::KEYS),
    ("expect", Expect::KEYS),
];

/// Refuses keys that do not exist.
pub(super) fn check(file: &toml::Table) -> Result<(), ScenarioError> {
    check_table("the scenario", file, File::KEYS)?;
    for (name, keys) in TABLES {
        match file.get(name) {
            Some(toml::Value::Table(table)) => check_table(&format!("[{name}]"), table, keys)?,
            Some(toml::Value::Array(tables)) => {
                for table in tables.iter().filter_map(toml::Value::as_table) {
                    check_table(&format!("[[{name}]]"), table, keys)?;
                }
            }
            // Of the wrong type: serde says so with the line.
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn check_table(place: &str, table: &toml::Table, keys: &'static [&'static str]) -> Result<(), ScenarioError> {
    match table.keys().find(|key| !keys.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let distance = |known: &&&str| strsim::damerau_levenshtein(known, key);
            let nearest = keys.iter().min_by_key(distance).expect("every table has keys");
            Err(ScenarioError::UnknownKey { place: place.to_owned(), key: key.clone(), nearest, keys })
        }
    }
}
