//! Whatever the cores may say survives the wire, and what they may not is refused by name.

use crate::{ConvertError, limits, proto};
use proptest::prelude::*;
use prost::Message as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire_format::control::limits::{ADDRESSES, DESTINATIONS, NAME_BYTES, NAMESPACES, NEIGHBOURS, TOKEN_KEYS};
use wire_format::control::{
    HeldStream, LOSS_BURSTS, LinkQuality, LinkReport, LinkState, NamespaceRates, NamespaceUsage, Neighbour,
    Position, PublicationReport, RelayHello, RepairPlan, RepairTotals, StreamEntry, StreamName,
    SubscriptionReport, ToController, ToRelay, TokenKey, TraceReport, TraceRequest, TracedIn, TracedOut,
    TracedPeer, TracedSpread, Welcome,
};
use wire_format::{
    Epoch, Incarnation, MediaKind, NodeIndex, Plane, PlanePair, PolicyIndex, PolicyTable, PublicationId,
    PublisherKey, RoomId, RouteTable, Sequence, StreamId, StreamKey, SubscriptionId, TableDelta, UserId,
};

fn name() -> impl Strategy<Value = String> {
    "[a-zé*/ -]{0,12}"
}

fn node() -> impl Strategy<Value = NodeIndex> {
    any::<u16>().prop_map(NodeIndex)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn key() -> impl Strategy<Value = StreamKey> {
    (any::<u32>(), any::<u32>(), any::<u16>()).prop_map(|(room, user, stream)| StreamKey {
        room: RoomId(room),
        user: UserId(user),
        stream: StreamId(stream),
    })
}

fn kind() -> impl Strategy<Value = MediaKind> {
    prop_oneof![Just(MediaKind::Audio), Just(MediaKind::Video)]
}

fn stream_name() -> impl Strategy<Value = StreamName> {
    (name(), name(), name(), name()).prop_map(|(namespace, room, user, stream)| StreamName {
        namespace,
        room,
        user,
        stream,
    })
}

fn ascending() -> impl Strategy<Value = Vec<NodeIndex>> {
    proptest::collection::btree_set(node(), 0..8).prop_map(|set| set.into_iter().collect())
}

fn micros() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

fn hello() -> impl Strategy<Value = RelayHello> {
    let held = (key(), proptest::collection::vec(node(), 0..5))
        .prop_map(|(key, destinations)| HeldStream { key, destinations });
    let texts = (name(), name(), name(), proptest::collection::vec(name(), 0..3), name());
    let rest = (
        proptest::option::of(node()),
        proptest::collection::vec(address(), 0..ADDRESSES),
        any::<(u8, u8)>(),
        proptest::option::of(any::<u32>().prop_map(Epoch)),
        proptest::collection::vec(held, 0..4),
    );
    let position = (-90_000_000..=90_000_000_i32, -180_000_000..=180_000_000_i32)
        .prop_map(|(lat, lon)| Position::new(lat, lon));
    (texts, rest, position, any::<bool>()).prop_map(
        |(
            (name, region, isp, tags, version),
            (node, addresses, wire_versions, epoch, streams),
            position,
            traces,
        )| {
            RelayHello {
                name,
                node,
                region,
                isp,
                tags,
                position,
                addresses,
                version,
                wire_versions,
                epoch,
                table_deltas: epoch.is_some(),
                streams,
                traces,
            }
        },
    )
}

fn link_quality() -> impl Strategy<Value = LinkQuality> {
    let option = || proptest::option::of(micros());
    let times = (option(), option(), micros(), micros());
    let counts = (proptest::option::of(any::<u64>()), any::<[u64; LOSS_BURSTS]>(), 0..=1_000_000_u32);
    let plan = || {
        prop_oneof![
            Just(RepairPlan::Nothing),
            any::<u32>().prop_map(|rounds| RepairPlan::Retransmission { rounds }),
            (0..=1_000_000_u32, any::<u32>())
                .prop_map(|(share_ppm, window)| RepairPlan::Parity { share_ppm, window }),
            Just(RepairPlan::Twice),
        ]
    };
    (times, counts, any::<[u64; 8]>(), plan(), plan()).prop_map(
        |(
            (rtt_smoothed, rtt_variation, queueing_in, queueing_out),
            (deliverable_out, bursts_in, residual_in_ppm),
            [first_bytes, overhead_bytes, retransmitted, parity, requests, missing, reordered, recovered],
            repair_audio,
            repair_other,
        )| LinkQuality {
            rtt_smoothed,
            rtt_variation,
            queueing_in,
            queueing_out,
            deliverable_out,
            bursts_in,
            residual_in_ppm,
            repair: RepairTotals {
                first_bytes,
                overhead_bytes,
                retransmitted,
                parity,
                requests,
                missing,
                reordered,
                recovered,
            },
            repair_audio,
            repair_other,
        },
    )
}

fn link_report() -> impl Strategy<Value = LinkReport> {
    let state = prop_oneof![Just(LinkState::Up), Just(LinkState::Suspect), Just(LinkState::Down)];
    let times = (proptest::option::of(micros()), proptest::option::of(micros()), micros(), micros());
    let counts = (0..=1_000_000_u32, 0..=1_000_000_u32, any::<u64>(), any::<u64>(), any::<u64>());
    (node(), state, times, counts, link_quality()).prop_map(
        |(
            neighbour,
            state,
            (rtt, rtt_min, jitter_in, jitter_out),
            (loss_out_ppm, loss_in_ppm, rate_out, rate_in, samples),
            quality,
        )| LinkReport {
            neighbour,
            state,
            rtt,
            rtt_min,
            jitter_in,
            jitter_out,
            loss_out_ppm,
            loss_in_ppm,
            rate_out,
            rate_in,
            samples,
            quality,
        },
    )
}

fn to_controller() -> impl Strategy<Value = ToController> {
    let publication = || any::<u32>().prop_map(PublicationId);
    let subscription = || any::<u32>().prop_map(SubscriptionId);
    let epoch = || any::<u32>().prop_map(Epoch);
    let granted = proptest::option::of((key(), any::<u8>().prop_map(Incarnation)));
    let publisher = || any::<Option<[u8; 16]>>().prop_map(|key| key.map(PublisherKey));
    let published = (publication(), stream_name(), kind(), granted, any::<bool>(), publisher()).prop_map(
        |(publication, name, kind, granted, protect, publisher)| PublicationReport {
            publication,
            name,
            kind,
            granted,
            protect,
            publisher,
        },
    );
    let subscribed =
        (subscription(), name(), name(), proptest::option::of(name()), proptest::option::of(name()))
            .prop_map(|(subscription, namespace, room, user, stream)| SubscriptionReport {
                subscription,
                namespace,
                room,
                user,
                stream,
            });
    prop_oneof![
        hello().prop_map(ToController::Hello),
        Just(ToController::ReportsComplete),
        proptest::collection::vec(link_report(), 0..4).prop_map(ToController::Links),
        published.prop_map(ToController::Published),
        publication().prop_map(|publication| ToController::Unpublished { publication }),
        subscribed.prop_map(ToController::Subscribed),
        subscription().prop_map(|subscription| ToController::Unsubscribed { subscription }),
        epoch().prop_map(|epoch| ToController::TableAck { epoch }),
        epoch().prop_map(|epoch| ToController::TableWanted { epoch }),
        epoch().prop_map(|epoch| ToController::StampAck { epoch }),
        (key(), any::<u64>()).prop_map(|(key, revision)| ToController::StreamAck { key, revision }),
        Just(ToController::Goodbye),
        proptest::collection::vec(usage(), 0..4).prop_map(ToController::Usage),
        traced().prop_map(ToController::Traced),
    ]
}

fn traced() -> impl Strategy<Value = TraceReport> {
    let peer = || {
        prop_oneof![
            node().prop_map(TracedPeer::Relay),
            name().prop_map(TracedPeer::Sfu),
            Just(TracedPeer::Plain)
        ]
    };
    let spread = || {
        (any::<u64>(), micros(), micros(), micros(), micros())
            .prop_map(|(count, mean, p50, p99, max)| TracedSpread { count, mean, p50, p99, max })
    };
    let times = (micros(), micros(), proptest::option::of(micros()), micros());
    let came = (peer(), any::<[u64; 5]>(), any::<[u32; 2]>(), spread(), spread(), times, any::<[u8; 2]>())
        .prop_map(|(peer, counts, [first, last], excess, wait, times, [hop_limit, planes])| TracedIn {
            peer,
            packets: counts[0],
            bytes: counts[1],
            again: counts[2],
            parity: counts[3],
            first: Sequence(first),
            last: Sequence(last),
            excess,
            wait,
            slack_min: times.0,
            slack_p50: times.1,
            hop_limit,
            planes,
            marked: counts[4],
            rtt_min: times.2,
            queueing: times.3,
        });
    let left = (peer(), any::<[u64; 4]>(), spread(), any::<u8>()).prop_map(
        |(peer, [packets, bytes, again, marked], residence, planes)| TracedOut {
            peer,
            packets,
            bytes,
            again,
            residence,
            planes,
            marked,
        },
    );
    let rows = (proptest::collection::vec(came, 0..3), proptest::collection::vec(left, 0..3));
    (any::<[u64; 2]>(), key(), any::<bool>(), micros(), rows).prop_map(
        |([trace, left_out], key, refused, watched, (incoming, outgoing))| TraceReport {
            trace,
            key,
            refused,
            watched,
            incoming,
            outgoing,
            left_out,
        },
    )
}

fn usage() -> impl Strategy<Value = NamespaceUsage> {
    (name(), any::<[u64; 5]>()).prop_map(|(namespace, counts)| NamespaceUsage {
        namespace,
        packets_in: counts[0],
        bytes_in: counts[1],
        packets_out: counts[2],
        bytes_out: counts[3],
        packets_over_rate: counts[4],
    })
}

fn policy() -> impl Strategy<Value = PolicyIndex> {
    any::<u8>().prop_map(PolicyIndex::from_bits)
}

fn table() -> impl Strategy<Value = RouteTable> {
    let others = proptest::collection::btree_map(policy(), policy_table(), 0..4);
    (any::<u32>(), policy_table(), others).prop_map(|(epoch, default, others)| {
        let mut table = RouteTable::of_default(Epoch(epoch), default);
        for (policy, rows) in others {
            *table.policy_mut(policy) = rows;
        }
        table
    })
}

fn policy_table() -> impl Strategy<Value = PolicyTable> {
    let rows = proptest::collection::btree_map(((0..3_u8).prop_map(Plane), node()), node(), 0..20);
    let backups = proptest::collection::btree_map(node(), (1..3_u8).prop_map(Plane), 0..20);
    let pair = proptest::sample::select(&PlanePair::ALL[..]);
    let pairs = proptest::collection::btree_map(node(), pair, 0..20);
    (rows, backups, pairs).prop_map(|(next_hops, backups, pairs)| PolicyTable { next_hops, backups, pairs })
}

fn stream_entry() -> impl Strategy<Value = StreamEntry> {
    let subscriptions = proptest::collection::vec(any::<u32>().prop_map(SubscriptionId), 0..6);
    let incarnation = any::<u8>().prop_map(Incarnation);
    let last = (any::<(u64, bool)>(), policy());
    (key(), stream_name(), kind(), incarnation, node(), subscriptions, ascending(), last).prop_map(
        |(
            key,
            name,
            kind,
            incarnation,
            ingress,
            subscriptions,
            destinations,
            ((revision, protect), policy),
        )| {
            StreamEntry {
                key,
                name,
                kind,
                incarnation,
                ingress,
                subscriptions,
                destinations,
                revision,
                protect,
                policy,
            }
        },
    )
}

fn to_relay() -> impl Strategy<Value = ToRelay> {
    let neighbour = (node(), name(), proptest::collection::vec(address(), 0..ADDRESSES), any::<u64>())
        .prop_map(|(node, name, addresses, certificates_from_unix_s)| Neighbour {
            node,
            name,
            addresses,
            certificates_from_unix_s,
        });
    let token_key = (name(), any::<[u8; 32]>(), proptest::option::of(name()))
        .prop_map(|(id, public_key, namespace)| TokenKey { id, public_key, namespace });
    prop_oneof![
        (node(), any::<u64>()).prop_map(|(node, term)| ToRelay::Welcome(Welcome { node, term })),
        proptest::collection::vec(neighbour, 0..4).prop_map(ToRelay::Neighbours),
        table().prop_map(ToRelay::Table),
        (table(), table()).prop_map(|(base, newer)| ToRelay::TableDelta(TableDelta::between(&base, &newer))),
        any::<u32>().prop_map(|epoch| ToRelay::Stamp { epoch: Epoch(epoch) }),
        (any::<u32>(), key(), any::<u8>()).prop_map(|(publication, key, incarnation)| {
            ToRelay::PublicationGranted {
                publication: PublicationId(publication),
                key,
                incarnation: Incarnation(incarnation),
            }
        }),
        (any::<u32>(), any::<bool>(), name()).prop_map(|(publication, limit, reason)| {
            ToRelay::PublicationRefused { publication: PublicationId(publication), limit, reason }
        }),
        (any::<u32>(), name()).prop_map(|(subscription, reason)| ToRelay::SubscriptionRefused {
            subscription: SubscriptionId(subscription),
            reason
        }),
        stream_entry().prop_map(ToRelay::Stream),
        key().prop_map(|key| ToRelay::StreamGone { key }),
        proptest::collection::vec(token_key, 0..4).prop_map(ToRelay::TokenKeys),
        (any::<Option<u64>>(), proptest::collection::vec((name(), any::<Option<u64>>()), 0..4))
            .prop_map(|(default, named)| ToRelay::Namespaces(NamespaceRates { default, named })),
        any::<bool>().prop_map(|draining| ToRelay::Drain { draining }),
        (any::<u64>(), key(), 0..=10_000_000_u64).prop_map(|(trace, key, us)| {
            ToRelay::Trace(TraceRequest { trace, key, duration: Duration::from_micros(us) })
        }),
    ]
}

proptest! {
    #[test]
    fn what_relays_say_survives_the_wire(message in to_controller()) {
        let bytes = proto::ToController::from(message.clone()).encode_to_vec();
        let decoded = proto::ToController::decode(bytes.as_slice()).expect("just encoded");
        prop_assert_eq!(ToController::try_from(decoded), Ok(message));
    }

    #[test]
    fn what_the_controller_says_survives_the_wire(message in to_relay()) {
        let bytes = proto::ToRelay::from(message.clone()).encode_to_vec();
        let decoded = proto::ToRelay::decode(bytes.as_slice()).expect("just encoded");
        prop_assert_eq!(ToRelay::try_from(decoded), Ok(message));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = proto::ToController::decode(bytes.as_slice()) {
            let _ = ToController::try_from(message);
        }
        if let Ok(message) = proto::ToRelay::decode(bytes.as_slice()) {
            let _ = ToRelay::try_from(message);
        }
    }
}

fn refusal(kind: proto::to_controller::Kind) -> ConvertError {
    ToController::try_from(proto::ToController { kind: Some(kind) }).expect_err("must be refused")
}

fn refusal_by_relay(kind: proto::to_relay::Kind) -> ConvertError {
    ToRelay::try_from(proto::ToRelay { kind: Some(kind) }).expect_err("must be refused")
}

#[test]
fn absent_or_unknown_kinds_are_refused() {
    let absent = proto::ToController { kind: None };
    assert_eq!(ToController::try_from(absent), Err(ConvertError::Missing("kind")));
    let published = proto::Published { name: Some(proto::StreamName::default()), ..Default::default() };
    assert_eq!(refusal(proto::to_controller::Kind::Published(published)), ConvertError::Missing("kind"));
    let link = proto::LinkReport { state: 77, ..Default::default() };
    let links = proto::Links { links: vec![link] };
    assert_eq!(refusal(proto::to_controller::Kind::Links(links)), ConvertError::Missing("state"));
}

#[test]
fn a_relay_stands_on_this_globe() {
    for (lat_micro_degrees, lon_micro_degrees) in [(90_000_001, 0), (0, -180_000_001), (i32::MIN, i32::MAX)] {
        let position = Some(proto::Position { lat_micro_degrees, lon_micro_degrees });
        let hello = proto::Hello { name: "r1".into(), position, ..Default::default() };
        let refused = refusal(proto::to_controller::Kind::Hello(hello));
        assert_eq!(refused, ConvertError::OutOfRange("position"));
    }
}

#[test]
fn every_list_of_a_relay_is_bounded() {
    use proto::to_controller::Kind;
    let too_many = |hello: proto::Hello| match refusal(Kind::Hello(hello)) {
        ConvertError::TooLong { field, length, max } => {
            assert_eq!(length, max + 1);
            field
        }
        ConvertError::Missing(field) | ConvertError::OutOfRange(field) | ConvertError::Address(field) => {
            panic!("{field}: refused for another reason")
        }
    };
    let hello = proto::Hello::default;
    assert_eq!(too_many(proto::Hello { name: "x".repeat(NAME_BYTES + 1), ..hello() }), "name");
    assert_eq!(too_many(proto::Hello { tags: vec![String::new(); limits::TAGS + 1], ..hello() }), "tags");
    assert_eq!(
        too_many(proto::Hello { addresses: vec!["[::]:1".into(); ADDRESSES + 1], ..hello() }),
        "addresses"
    );
    let streams = vec![proto::HeldStream::default(); limits::HELD_STREAMS + 1];
    assert_eq!(too_many(proto::Hello { streams, ..hello() }), "streams");
    let held = proto::HeldStream { key: Some(Default::default()), destinations: vec![1; DESTINATIONS + 1] };
    assert_eq!(too_many(proto::Hello { streams: vec![held], ..hello() }), "destinations");
    let links = proto::Links { links: vec![Default::default(); limits::LINKS + 1] };
    let max = limits::LINKS;
    assert_eq!(refusal(Kind::Links(links)), ConvertError::TooLong { field: "links", length: max + 1, max });
    let namespaces = vec![proto::NamespaceUsage::default(); NAMESPACES + 1];
    assert_eq!(
        refusal(Kind::Usage(proto::Usage { namespaces })),
        ConvertError::TooLong { field: "namespaces", length: NAMESPACES + 1, max: NAMESPACES }
    );
}

#[test]
fn every_list_of_the_controller_is_bounded() {
    use proto::to_relay::Kind;
    let too_long = |field, max| ConvertError::TooLong { field, length: max + 1, max };
    let neighbours = vec![proto::Neighbour::default(); NEIGHBOURS + 1];
    assert_eq!(
        refusal_by_relay(Kind::Neighbours(proto::Neighbours { neighbours })),
        too_long("neighbours", NEIGHBOURS)
    );
    let keys = vec![proto::TokenKey::default(); TOKEN_KEYS + 1];
    assert_eq!(refusal_by_relay(Kind::TokenKeys(proto::TokenKeys { keys })), too_long("keys", TOKEN_KEYS));
    let namespaces = vec![proto::NamespaceRate::default(); NAMESPACES + 1];
    assert_eq!(
        refusal_by_relay(Kind::Namespaces(proto::Namespaces { namespaces, ..Default::default() })),
        too_long("namespaces", NAMESPACES)
    );
    let planes = vec![proto::PlaneTable::default(); limits::PLANES + 1];
    assert_eq!(
        refusal_by_relay(Kind::Table(proto::Table { epoch: 1, planes, ..Default::default() })),
        too_long("planes", limits::PLANES)
    );
    let entry =
        proto::StreamEntry { subscriptions: vec![0; limits::SUBSCRIPTIONS + 1], ..Default::default() };
    assert_eq!(refusal_by_relay(Kind::Stream(entry)), too_long("subscriptions", limits::SUBSCRIPTIONS));
}

#[test]
fn changes_of_tables_must_be_consistent() {
    use proto::to_relay::Kind;
    let delta = |policies, policies_gone| {
        Kind::TableDelta(proto::TableDelta { epoch: 2, base: 1, policies, policies_gone })
    };
    let of = |changes| refusal_by_relay(delta(vec![changes], Vec::new()));
    let rows = |plane, destinations, next_hops| proto::PlaneTable { plane, destinations, next_hops };
    let gone = |plane, destinations| proto::PlaneRows { plane, destinations };
    let changes = proto::PolicyDelta::default;
    let out_of_range = ConvertError::OutOfRange;
    for (planes, planes_gone, field) in [
        (vec![rows(0, vec![1, 2], vec![1])], vec![], "next_hops"),
        (vec![rows(0, vec![1, 1], vec![1, 2])], vec![], "destinations"),
        (vec![rows(0, vec![1], vec![1])], vec![gone(0, vec![1])], "destinations"),
        (vec![rows(3, vec![1], vec![1])], vec![], "plane"),
        (vec![], vec![gone(9, vec![1])], "plane"),
        (vec![], vec![gone(0, vec![65_536])], "destinations"),
    ] {
        assert_eq!(of(proto::PolicyDelta { planes, planes_gone, ..changes() }), out_of_range(field));
    }
    let backups = |destinations, planes| proto::PolicyDelta {
        backup_destinations: destinations,
        backup_planes: planes,
        ..changes()
    };
    assert_eq!(of(backups(vec![1, 2], vec![1])), out_of_range("backup_planes"));
    assert_eq!(of(backups(vec![1], vec![3])), out_of_range("plane"));
    let pairs =
        |bits| proto::PolicyDelta { pair_destinations: vec![1], pair_planes: vec![bits], ..changes() };
    assert_eq!(of(pairs(7)), out_of_range("pair_planes"));
    assert_eq!(of(proto::PolicyDelta { policy: 8, ..changes() }), out_of_range("policy"));
    let twice = delta(vec![changes(), changes()], Vec::new());
    assert_eq!(refusal_by_relay(twice), out_of_range("policy"));
    for policies_gone in [vec![0], vec![3, 3]] {
        assert_eq!(refusal_by_relay(delta(Vec::new(), policies_gone)), out_of_range("policies_gone"));
    }
    let many = refusal_by_relay(delta(vec![changes(); 9], Vec::new()));
    assert_eq!(many, ConvertError::TooLong { field: "policies", length: 9, max: 8 });
}

#[test]
fn tables_and_entries_must_be_consistent() {
    use proto::to_relay::Kind;
    let table = |rows| Kind::Table(proto::Table { epoch: 1, planes: vec![rows], ..Default::default() });
    let uneven = proto::PlaneTable { plane: 0, destinations: vec![1, 2], next_hops: vec![1] };
    assert_eq!(refusal_by_relay(table(uneven)), ConvertError::OutOfRange("plane"));
    let twice = proto::PlaneTable { plane: 0, destinations: vec![1, 1], next_hops: vec![1, 2] };
    assert_eq!(refusal_by_relay(table(twice)), ConvertError::OutOfRange("destinations"));
    let wide = proto::PlaneTable { plane: 0, destinations: vec![65_536], next_hops: vec![1] };
    assert_eq!(refusal_by_relay(table(wide)), ConvertError::OutOfRange("destinations"));
    let pairs = |pair_destinations, pair_planes| {
        Kind::Table(proto::Table { epoch: 1, pair_destinations, pair_planes, ..Default::default() })
    };
    for (destinations, planes, field) in [
        (vec![1, 2], vec![3], "pair_planes"),
        (vec![1], vec![7], "pair_planes"),
        (vec![1], vec![1], "pair_planes"),
        (vec![1, 1], vec![3, 5], "pair_destinations"),
        (vec![65_536], vec![6], "pair_destinations"),
    ] {
        assert_eq!(refusal_by_relay(pairs(destinations, planes)), ConvertError::OutOfRange(field));
    }
    let backups = |backup_destinations, backup_planes| {
        Kind::Table(proto::Table { epoch: 1, backup_destinations, backup_planes, ..Default::default() })
    };
    for (destinations, planes) in
        [(vec![1, 2], vec![1]), (vec![1], vec![0]), (vec![1], vec![3]), (vec![1, 1], vec![1, 2])]
    {
        let refusal = refusal_by_relay(backups(destinations, planes));
        assert_eq!(refusal, ConvertError::OutOfRange("backup_planes"));
    }
    let policies = |numbers: &[u32]| {
        let rows = |policy: &u32| proto::PolicyTable { policy: *policy, ..Default::default() };
        Kind::Table(proto::Table { policies: numbers.iter().map(rows).collect(), ..Default::default() })
    };
    for numbers in [&[0][..], &[8], &[256], &[3, 3]] {
        assert_eq!(refusal_by_relay(policies(numbers)), ConvertError::OutOfRange("policy"), "{numbers:?}");
    }
    let too_long = ConvertError::TooLong { field: "policies", length: 8, max: 7 };
    assert_eq!(refusal_by_relay(policies(&[1; 8])), too_long);
    let strange = proto::StreamEntry { policy: 8, ..Default::default() };
    assert_eq!(refusal_by_relay(Kind::Stream(strange)), ConvertError::OutOfRange("policy"));
    let unsorted = proto::StreamEntry { destinations: vec![2, 1], ..Default::default() };
    assert_eq!(refusal_by_relay(Kind::Stream(unsorted)), ConvertError::OutOfRange("destinations"));
}
