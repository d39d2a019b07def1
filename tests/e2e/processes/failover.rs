//! Several controllers that share an etcd: whatever dies, hangs or is cut off, calls do not notice, one of them leads soon,
//! and nobody who led before disturbs it.

use crate::controllers::{Controllers, Role};
use crate::stream::{Passage, Stream, camera};
use sfu_link::{SfuLink, SubscribeOptions, Subscription};
use std::time::{Duration, Instant};

/// From the death of a leader to another one that has heard everything of all relays.
const TAKEOVER_MAX: Duration = Duration::from_secs(5);

/// A call from r1 to r3.
struct Call {
    sfus: [SfuLink; 2],
    flowing: Option<(Stream, Subscription)>,
}

impl Call {
    async fn begin(all: &Controllers, leader: usize) -> Call {
        let (sender, receiver) = (all.sfu(leader, "r1").await, all.sfu(leader, "r3").await);
        let mut subscription = receiver.subscribe(SubscribeOptions::room("standup")).await.expect("granted");
        let publication = sender.publish(camera()).await.expect("granted");
        let stream = Stream::flowing(publication, &mut subscription).await;
        Call { sfus: [sender, receiver], flowing: Some((stream, subscription)) }
    }

    /// Goes on while something happens, and loses nothing.
    async fn endures(&mut self, what: &str, disturbance: impl Future<Output = ()>) {
        let (stream, subscription) = self.flowing.take().expect("it flows");
        let (stream, subscription, passage) = stream.endure(subscription, disturbance).await;
        let Passage { lost, repeated, gap_ms } = passage;
        eprintln!("{what}: {lost} packets lost, {repeated} repeated, longest silence {gap_ms} ms");
        assert_eq!((lost, repeated), (0, 0), "{what}");
        self.flowing = Some((stream, subscription));
    }

    async fn end(self) {
        for sfu in self.sfus {
            sfu.close().await;
        }
    }
}

fn leader(all: &Controllers) -> (usize, u64) {
    tokio::task::block_in_place(|| all.leader().expect("one leads"))
}

fn epochs(all: &Controllers) -> Vec<u64> {
    tokio::task::block_in_place(|| all.epochs())
}

/// Relays stamp no older epochs than before.
fn no_epoch_went_back(before: &[u64], all: &Controllers) {
    let after = epochs(all);
    assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{before:?} then {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_killed_is_followed_within_five_seconds_and_costs_no_packet() {
    if !e2e::has_etcd() {
        return;
    }
    let mut all = Controllers::start().await;
    let (first, mut last_term) = leader(&all);
    let mut call = Call::begin(&all, first).await;

    // Three times: wherever in a lease the death falls.
    let mut killed = first;
    for round in 0..3 {
        let before = epochs(&all);
        let takeover = async {
            let begun = Instant::now();
            all.kill_controller(killed);
            all.until("another leads all relays", |all| all.is_led_by_another_than(killed)).await;
            let took = begun.elapsed();
            eprintln!("takeover after kill -9, {round}: {} ms", took.as_millis());
            assert!(took < TAKEOVER_MAX, "{took:?}");
        };
        call.endures("a leader killed", takeover).await;
        let (leader, term) = leader(&all);
        assert!(term > last_term, "{term} after {last_term}");
        last_term = term;
        no_epoch_went_back(&before, &all);
        all.start_controller(killed);
        all.until("the killed one follows", |all| all.follows(killed)).await;
        killed = leader;
    }

    // Followers answer what they can, and say who answers the rest.
    let (now, _) = leader(&all);
    let follower = (now + 1) % 3;
    let error = tokio::task::block_in_place(|| all.relayctl(follower, &["nodes"])).expect_err("refused");
    assert!(error.contains("not the leader") && error.contains(&all.grpc(now).to_string()), "{error}");
    let roles: Vec<u64> = (0..3).map(|at| all.metric(at, "cascade_controller_leader")).collect();
    assert_eq!((roles.iter().sum::<u64>(), roles[now]), (1, 1), "{roles:?}");
    assert_eq!(all.metric(now, "cascade_controller_term"), last_term);
    let (status, ready) = all.get(follower, "/readyz").expect("it answers");
    assert!(status == 200 && ready.contains(&all.grpc(now).to_string()), "{status} {ready}");

    // What comes new finds the overlay whole, with what another controller gave.
    let late = all.sfu(now, "r2").await;
    let mut other = late.subscribe(SubscribeOptions::room("standup").user("alice")).await.expect("granted");
    let (stream, _) = call.flowing.take().expect("it flows");
    let stream = Stream::flowing(stream.publication, &mut other).await;
    stream.run(&mut other, 200, async {}).await;
    late.close().await;

    // One that stops in good order hands over at once, whatever is left of its lease.
    let begun = Instant::now();
    tokio::task::block_in_place(|| all.stop_controller(now));
    all.until("another leads all relays", |all| all.is_led_by_another_than(now)).await;
    eprintln!("takeover after SIGTERM: {} ms", begun.elapsed().as_millis());
    call.end().await;
    all.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_dies_costs_no_packet_and_somebody_leads_when_it_is_back() {
    if !e2e::has_etcd() {
        return;
    }
    let mut all = Controllers::start().await;
    let (first, term) = leader(&all);
    let mut call = Call::begin(&all, first).await;
    let before = epochs(&all);
    let outage = async {
        let begun = Instant::now();
        all.etcd.kill();
        all.until("nobody leads", |all| (0..3).all(|at| all.role(at) == Role::Follower)).await;
        eprintln!("nobody leads {} ms after etcd was killed", begun.elapsed().as_millis());
        assert!(begun.elapsed() < Duration::from_secs(4), "a lease lasts three seconds");
        // For long enough that whatever waits for a controller would give up.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let begun = Instant::now();
        tokio::task::block_in_place(|| all.etcd.start_again());
        all.until("somebody leads all relays", |all| all.is_led_by_another_than(usize::MAX)).await;
        eprintln!("led again {} ms after etcd was started", begun.elapsed().as_millis());
    };
    call.endures("etcd killed and started again", outage).await;
    let (leader, new_term) = leader(&all);
    assert!(new_term > term, "{new_term} after {term}");
    assert!(all.metric(leader, "cascade_controller_etcd_errors_total") > 0);
    no_epoch_went_back(&before, &all);
    call.end().await;
    all.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_from_etcd_stops_before_another_leads() {
    if !e2e::has_etcd() {
        return;
    }
    let all = Controllers::start().await;
    let (first, term) = leader(&all);
    let mut call = Call::begin(&all, first).await;
    let before = epochs(&all);
    let partition = async {
        let begun = Instant::now();
        all.cut(first, true);
        // Relays still reach it; it ends their sessions itself.
        let two_lead = |all: &Controllers| {
            let leaders = (0..3).filter(|at| matches!(all.role(*at), Role::Leader(_))).count();
            assert!(leaders <= 1, "two lead");
            all.is_led_by_another_than(first)
        };
        all.until("another leads all relays", two_lead).await;
        eprintln!("takeover after a cut: {} ms", begun.elapsed().as_millis());
        assert_eq!(all.role(first), Role::Follower);
        // Cut off as it is, it knows no leader.
        let (status, _) = all.get(first, "/readyz").expect("it answers");
        assert_eq!(status, 503);
        all.cut(first, false);
        all.until("it follows", |all| all.follows(first)).await;
    };
    call.endures("the leader cut off from etcd", partition).await;

    // Then etcd is cut off from all, and comes back.
    let (_, second_term) = leader(&all);
    assert!(second_term > term, "{second_term} after {term}");
    let cut_from_all = async {
        (0..3).for_each(|at| all.cut(at, true));
        all.until("nobody leads", |all| (0..3).all(|at| all.role(at) == Role::Follower)).await;
        (0..3).for_each(|at| all.cut(at, false));
        all.until("somebody leads all relays", |all| all.is_led_by_another_than(usize::MAX)).await;
    };
    call.endures("etcd cut off from all", cut_from_all).await;
    let (_, third_term) = leader(&all);
    assert!(third_term > second_term, "{third_term} after {second_term}");
    no_epoch_went_back(&before, &all);
    call.end().await;
    all.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hung_and_goes_on_disturbs_nobody() {
    if !e2e::has_etcd() {
        return;
    }
    let all = Controllers::start().await;
    let (first, term) = leader(&all);
    let mut call = Call::begin(&all, first).await;
    let before = epochs(&all);
    let hang = async {
        all.signal(first, "STOP");
        all.until("another leads all relays", |all| all.is_led_by_another_than(first)).await;
        let (second, second_term) = leader(&all);
        assert!(second_term > term, "{second_term} after {term}");
        let sessions = all.metric(second, "cascade_controller_sessions_total");
        all.signal(first, "CONT");
        // Whatever it is asked to write from its first moment on, it refuses.
        let asked = ["join-token", "create", "--name", "late", "--region", "local"];
        let refused = tokio::task::block_in_place(|| all.relayctl(first, &asked)).expect_err("refused");
        eprintln!("to a write the old leader says: {}", refused.trim());
        all.until("it follows", |all| all.follows(first)).await;
        let tokens = all.rows(second, &["join-token", "list"], "join_tokens").expect("a list");
        assert!(tokens.is_empty(), "{tokens:?}");
        // Nobody left the new leader, and everybody hears it.
        assert!(all.is_whole(second));
        assert_eq!(all.metric(second, "cascade_controller_sessions_total"), sessions);
        assert_eq!(leader(&all), (second, second_term));
    };
    call.endures("the leader hung and went on", hang).await;
    no_epoch_went_back(&before, &all);
    call.end().await;
    all.stop();
}
