//! The relay process as a library, with a real controller and real sockets. One file a behaviour.

mod clients;
mod controller;
mod join;
mod links;
mod local_api;
mod support;
