//! The relay process as a library, with a real controller and real sockets. One file a behaviour.

mod clients;
mod controller;
mod description;
mod join;
mod links;
mod local_api;
mod registrations;
mod schema;
mod support;
mod trust;
