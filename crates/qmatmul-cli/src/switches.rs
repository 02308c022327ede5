//! An argument for each capability of a device, which turns it off.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use qmatmul::gpu::Capability;

/// The capabilities whose arguments were given.
#[derive(Clone, Default)]
pub struct Switches {
    pub without: Vec<Capability>,
}

/// Its argument, whose id is the argument itself: `shader` has one for the size of a subgroup.
/// The first stands for all in the help, which is to fit a screen.
fn argument(capability: Capability) -> Arg {
    let is_first = capability == Capability::ALL[0];
    let others = || Capability::ALL[1..].iter().map(|other| other.argument()).collect::<Vec<_>>().join(", ");
    let help = match is_first {
        true => format!("{}; as well {}", capability.help(), others()),
        false => capability.help().to_owned(),
    };
    Arg::new(capability.argument())
        .long(capability.argument().trim_start_matches("--"))
        .help(help)
        .hide(!is_first)
        .action(ArgAction::SetTrue)
}

impl Args for Switches {
    fn augment_args(command: Command) -> Command {
        command.args(Capability::ALL.iter().copied().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Switches {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |capability: &Capability| matches.get_flag(capability.argument());
        Ok(Self { without: Capability::ALL.iter().copied().filter(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
