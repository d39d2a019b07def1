//! The route controller process.

mod rows;

pub use rows::{
    ErrorAnswer, JoinTokenAnswer, JoinTokenRequest, LinkRow, NodeRow, RouteRow, StreamRow, TokenAnswer,
    TokenRequest,
};
