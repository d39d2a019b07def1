//! An SFU's core, linked to a relay that has lost its mind.

use super::bench::{Bench, MAX_DATAGRAM};
use bolero::TypeGenerator;
use fuzz::target;
use relay_core::{Client, ClientCommand, ClientConfig, ClientEvent, Input, LinkId, Outgoing, Output, Peer};
use std::time::Duration;
use wire_format::codec;
use wire_format::session::{Message, RefusalCode};
use wire_format::{
    ClientKey, Codec, FrameKind, Incarnation, MediaKind, RtpDescription, StreamHandle, frame_header,
};

/// What happens next.
#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    /// A datagram of any bytes.
    Bytes {
        gap: u32,
        bytes: Vec<u8>,
    },
    /// A datagram of one frame of any kind.
    Frame {
        gap: u8,
        kind: u8,
        body: Vec<u8>,
    },
    /// A message of any bytes that is one.
    MessageBytes {
        bytes: Vec<u8>,
    },
    /// What a relay says, about anything.
    Published {
        request: u8,
        handle: u8,
    },
    Subscribed {
        request: u8,
    },
    Announce {
        handle: u8,
        subscriptions: Vec<u8>,
        stream: u8,
        incarnation: u8,
    },
    Ended {
        handle: u8,
    },
    /// Media of an announced stream.
    Edge {
        handle: u8,
        sequence: u16,
        bytes: u8,
    },
    /// The process around it publishes, subscribes, sends, asks.
    Publish {
        request: u8,
    },
    Unpublish {
        request: u8,
    },
    Subscribe {
        request: u8,
    },
    Unsubscribe {
        request: u8,
    },
    Send {
        publication: u8,
        packets: u8,
    },
    RequestKeyframe {
        handle: u8,
    },
    /// A link more stands; the client moves to it. The relays of both may speak.
    Second,
    /// The older of two links speaks from now on, or the newer one.
    Speaker {
        older: bool,
    },
    Refuse {
        request: u8,
        unavailable: bool,
    },
    Goodbye,
    /// The link falls, and another stands at once or only later.
    Link {
        up: bool,
    },
    Wait {
        ms: u8,
    },
}

#[test]
fn client_core() {
    target!("client-core").with_type::<Vec<Step>>().for_each(|steps| {
        let first = run(steps);
        assert_eq!(run(steps), first, "law 7: the same inputs give the same outputs");
    });
}

struct World {
    bench: Bench<Client>,
    /// Whose relay speaks.
    link: LinkId,
    /// Another link, if there was one.
    older: Option<LinkId>,
    newest: LinkId,
}

fn run(steps: &[Step]) -> u64 {
    let client = Client::new(ClientConfig { seed: 1, key: Some(ClientKey([7; 16])) });
    let mut world = World { bench: Bench::new(client), link: LinkId(0), older: None, newest: LinkId(0) };
    world.raise();
    world.step(&Step::Publish { request: 1 });
    world.step(&Step::Published { request: 1, handle: 1 });
    world.step(&Step::Subscribe { request: 2 });
    for step in steps.iter().take(64) {
        world.step(step);
    }
    world.step(&Step::Wait { ms: 100 });
    world.bench.digest
}

impl World {
    fn raise(&mut self) {
        // Ports never use a name again.
        self.newest = LinkId(self.newest.0 + (1 << 16));
        self.link = self.newest;
        let link = self.link;
        let up = Input::LinkUp { link, peer: Peer::Upstream, max_datagram: MAX_DATAGRAM };
        let outputs = self.bench.input(&[], up);
        self.answer(outputs);
    }

    /// Plays the port, which ends the links that the core closes.
    fn answer(&mut self, outputs: Vec<Output<ClientEvent>>) {
        for output in outputs {
            match output {
                Output::Message { link, message } => {
                    assert!(self.bench.links.contains_key(&link), "{message:?} for a link that is gone");
                }
                Output::Close { link, .. } => {
                    if self.bench.links.contains_key(&link) {
                        let outputs = self.bench.input(&[], Input::LinkDown { link });
                        self.answer(outputs);
                    }
                }
                Output::PathChallenged { .. } => {}
                Output::ClosePlain { port } => panic!("{port:?} was never opened"),
                Output::Event(_) => {}
            }
        }
    }

    fn command(&mut self, command: ClientCommand) {
        let outputs = self.bench.input(&[], Input::Command(command));
        self.answer(outputs);
    }

    fn message(&mut self, message: Message) {
        let link = self.link;
        let outputs = self.bench.input(&[], Input::Message { link, message });
        self.answer(outputs);
    }

    fn datagram(&mut self, gap: u32, plain: &[u8]) {
        let outputs = self.bench.datagram(self.link, gap, plain);
        self.answer(outputs);
    }

    fn step(&mut self, step: &Step) {
        let (number, text) = (u32::from, |name: &str| name.to_owned());
        let handle = |number: u8| StreamHandle(u16::from(number));
        match step.clone() {
            Step::Bytes { gap, bytes } => self.datagram(gap, &bytes),
            Step::Frame { gap, kind, body } => {
                let body = &body[..body.len().min(200)];
                let mut plain = vec![0, 1, gap];
                plain.extend((u16::from(kind % 32) << 11 | body.len() as u16).to_be_bytes());
                plain.extend(body);
                self.datagram(u32::from(gap), &plain);
            }
            Step::MessageBytes { bytes } => {
                if let Ok(message) = codec::decode(&bytes) {
                    self.message(message);
                }
            }
            Step::Published { request, handle: h } => {
                self.message(Message::Published { request: number(request), handle: handle(h) });
            }
            Step::Subscribed { request } => self.message(Message::Subscribed { request: number(request) }),
            Step::Announce { handle: h, subscriptions, stream, incarnation } => {
                self.message(Message::Announce {
                    handle: handle(h),
                    subscriptions: subscriptions.into_iter().map(number).collect(),
                    room: text("room"),
                    user: text("user"),
                    stream: format!("stream-{stream}"),
                    kind: MediaKind::Audio,
                    incarnation: Incarnation(incarnation),
                });
            }
            Step::Ended { handle: h } => self.message(Message::Ended { handle: handle(h) }),
            Step::Edge { handle, sequence, bytes } => {
                let mut body = vec![0, handle, 0, 0];
                body.extend(sequence.to_be_bytes());
                body.extend([7, 208, 0]);
                body.resize(body.len() + usize::from(bytes), 0x80);
                let mut plain = vec![0, 1, 0];
                plain.extend(frame_header(FrameKind::Edge, body.len()));
                plain.extend(body);
                self.datagram(0, &plain);
            }
            Step::Publish { request } => self.command(ClientCommand::Publish {
                request: number(request),
                room: text("room"),
                user: text("user"),
                stream: format!("stream-{request}"),
                kind: MediaKind::Video,
                budget: None,
                protect: false,
                description: RtpDescription { codec: Some(Codec::H264), ..RtpDescription::default() },
            }),
            Step::Unpublish { request } => {
                self.command(ClientCommand::Unpublish { request: number(request) })
            }
            Step::Subscribe { request } => self.command(ClientCommand::Subscribe {
                request: number(request),
                room: text("room"),
                user: None,
                stream: None,
            }),
            Step::Unsubscribe { request } => {
                self.command(ClientCommand::Unsubscribe { request: number(request) });
            }
            Step::Send { publication, packets } => {
                let arena = [0x80; 100];
                let batch: Vec<_> = (0..packets % 8)
                    .map(|_| Outgoing { publication: number(publication), range: 0..100, rtcp: false })
                    .collect();
                let outputs = self.bench.input(&arena, Input::Local(&batch));
                self.answer(outputs);
            }
            Step::RequestKeyframe { handle: h } => {
                self.command(ClientCommand::RequestKeyframe { handle: handle(h) });
            }
            Step::Second => {
                self.older = Some(self.link);
                self.raise();
            }
            Step::Speaker { older } => {
                if let Some(other) = self.older.filter(|other| older == (*other < self.link)) {
                    self.older = Some(std::mem::replace(&mut self.link, other));
                }
            }
            Step::Refuse { request, unavailable } => self.message(Message::Refuse {
                request: Some(number(request)),
                code: if unavailable { RefusalCode::Unavailable } else { RefusalCode::Limit },
                reason: text("no"),
            }),
            Step::Goodbye => self.message(Message::Goodbye),
            Step::Link { up } => {
                let link = self.link;
                if self.bench.links.contains_key(&link) {
                    let outputs = self.bench.input(&[], Input::LinkDown { link });
                    self.answer(outputs);
                }
                if up {
                    self.raise();
                }
            }
            Step::Wait { ms } => {
                let outputs = self.bench.wait(Duration::from_millis(20 * u64::from(ms)));
                self.answer(outputs);
            }
        }
    }
}
