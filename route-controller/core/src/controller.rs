//! The controller as one state machine.

use crate::api::{ControllerConfig, Input, Output};
use crate::view::{LinkView, NodeView, RouteFilter, RouteView, StatusView, StreamView};
use std::collections::VecDeque;
use wire_format::{NodeIndex, Timestamp};

/// The route controller's core. See the crate's page for how it behaves.
#[derive(Debug)]
pub struct Controller {
    config: ControllerConfig,
    outputs: VecDeque<Output>,
}

impl Controller {
    /// A controller that has just become the leader.
    pub fn new(config: ControllerConfig) -> Controller {
        Controller { config, outputs: VecDeque::new() }
    }

    /// Takes one input. `now` never goes back.
    pub fn handle_input(&mut self, _now: Timestamp, _input: Input) {}

    /// The next thing to do. Changed by every input.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due. Changed by every input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    /// The index of a relay, if it has one.
    #[must_use]
    pub fn node_index(&self, name: &str) -> Option<NodeIndex> {
        self.config.nodes.iter().find(|record| record.name == name).map(|record| record.node)
    }

    /// Every relay known, by index.
    #[must_use]
    pub fn nodes(&self, _now: Timestamp) -> Vec<NodeView> {
        Vec::new()
    }

    /// Every direction of every link reported, by indices.
    #[must_use]
    pub fn links(&self, _now: Timestamp) -> Vec<LinkView> {
        Vec::new()
    }

    /// Every stream, by name.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamView> {
        Vec::new()
    }

    /// Rows of route tables, by node, plane and destination.
    #[must_use]
    pub fn routes(&self, _now: Timestamp, _filter: RouteFilter) -> Vec<RouteView> {
        Vec::new()
    }

    /// The controller as a whole.
    #[must_use]
    pub fn status(&self) -> StatusView {
        StatusView { term: self.config.term, ..StatusView::default() }
    }
}
