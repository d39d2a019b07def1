//! `relayctl`, the operator's command line.
//!
//! Every command but `dev` asks a running controller over its admin API and prints what it says: `nodes`, `links`,
//! `streams` and `routes` show its state and explain it, `cordon` and `drain` have routes leave a relay, `token create` and `join-token create` have it issue a credential. What is
//! asked for goes to stdout and nothing else does, so that output can be piped; complaints go to stderr, with what to check.
//!
//! `dev` needs nothing: it runs a whole overlay in one process, with the code of the real processes. `bench` runs one beside
//! programs of others.

mod api_token;
mod bench;
mod cli;
mod client;
mod cordon;
pub mod dev;
mod drawings;
mod explain;
mod join_token;
mod links;
mod namespaces;
mod nodes;
mod output;
mod picture;
mod policy;
mod routes;
mod streams;
mod token;
mod token_key;
mod trace;
mod when;

pub use cli::{Cli, Command, ControllerArgs};

use std::process::ExitCode;

/// Does what the command line asks. Status 2 is for arguments that make no sense, 1 for everything else that fails.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { controller, command } = cli;
    let outcome = match command {
        Command::Dev(args) => return dev::command(&args),
        Command::Bench(cli::Bench::Loss(args)) => return bench::command(&args),
        Command::Bench(cli::Bench::Routes(args)) => return bench::routes::command(&args),
        Command::Nodes(args) => nodes::run(&controller, &args),
        Command::Node(cli::Node::Revoke(args)) => nodes::revoke(&controller, &args),
        Command::Cordon(args) => cordon::run(&controller, &args, true),
        Command::Uncordon(args) => cordon::run(&controller, &args, false),
        Command::Drain(args) => cordon::drain(&controller, &args),
        Command::Links(args) => links::run(&controller, &args),
        Command::Streams(args) => streams::run(&controller, &args),
        Command::Namespaces(args) => namespaces::run(&controller, &args),
        Command::Routes(cli::Routes::Dump(args)) => routes::run(&controller, &args),
        Command::Routes(cli::Routes::Epochs(args)) => explain::epochs(&controller, &args),
        Command::Routes(cli::Routes::Diff(args)) => explain::diff(&controller, &args),
        Command::Routes(cli::Routes::Explain(args)) => explain::explain(&controller, &args),
        Command::Trace(args) => trace::run(&controller, &args),
        Command::Routes(cli::Routes::WhyNot(args)) => explain::why_not(&controller, &args),
        Command::Policy(cli::Policy::Show(args)) => policy::show(&controller, &args),
        Command::Policy(cli::Policy::Apply(args)) => policy::apply(&controller, &args),
        Command::Token(cli::Token::Create(args)) => token::run(&controller, &args),
        Command::ApiToken(cli::ApiToken::Create(args)) => api_token::create(&controller, &args),
        Command::ApiToken(cli::ApiToken::List(args)) => api_token::list(&controller, &args),
        Command::ApiToken(cli::ApiToken::Revoke(args)) => api_token::revoke(&controller, &args),
        Command::TokenKey(cli::TokenKey::List(args)) => token_key::list(&controller, &args),
        Command::TokenKey(cli::TokenKey::Add(args)) => token_key::add(&controller, &args),
        Command::TokenKey(cli::TokenKey::Remove(args)) => token_key::remove(&controller, &args),
        Command::TokenKey(cli::TokenKey::Rotate(args)) => token_key::rotate(&controller, &args),
        Command::JoinToken(cli::JoinToken::Create(args)) => join_token::create(&controller, &args),
        Command::JoinToken(cli::JoinToken::List(args)) => join_token::list(&controller, &args),
        Command::JoinToken(cli::JoinToken::Revoke(args)) => join_token::revoke(&controller, &args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
