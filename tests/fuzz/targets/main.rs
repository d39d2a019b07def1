//! Fuzz targets of everything that reads what others wrote: frames and messages of links, messages of the control
//! session, whole cores, tokens, configuration, recordings, and the specifications of simulated networks.

mod control;
mod cores;
mod recording;
mod settings;
mod wire;
