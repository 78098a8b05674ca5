//! Where a stage starts, and what it inherits.

use rctr_storage::config::ContainerConfig;
use rctr_storage::manifest::Platform;

use super::error::PlanError;
use super::planner::{Lookup, Planner};
use super::references::Found;
use super::scope::Variables;
use super::stage::{Purpose, Walked};
use super::types::Base;

impl Planner<'_> {
    /// Where a stage starts, what it inherits, and the named directory that it is filled with.
    pub(super) fn start(
        &mut self,
        number: usize,
        purpose: Purpose,
    ) -> Result<(Base, Walked, Option<String>), PlanError> {
        let wanted = self.heads[number].platform.clone();
        let mut state = Walked {
            index: None,
            config: ContainerConfig::default(),
            author: None,
            platform: wanted.unwrap_or_else(|| self.wanted.clone()),
            variables: Variables::default(),
            arguments: Vec::new(),
            workdir_set: false,
            complete: true,
        };
        let scouting_blind = purpose == Purpose::Scout(Lookup::No);
        let found = match self.heads[number].base_stage {
            None if scouting_blind && self.heads[number].image != "scratch" => None,
            _ => match (self.base(number), purpose) {
                (Ok(found), _) => Some(found),
                (Err(error), Purpose::Build) => return Err(error),
                (Err(_), Purpose::Scout(_)) => None,
            },
        };
        Ok(match found {
            None => {
                state.complete = false;
                (Base::Scratch, state, None)
            }
            Some(Found::Scratch) => {
                state.config.working_dir = "/".to_owned();
                (Base::Scratch, state, None)
            }
            Some(Found::Directory(name)) => {
                state.config.working_dir = "/".to_owned();
                (Base::Scratch, state, Some(name))
            }
            Some(Found::Image(image)) => {
                state.config = image.config.config.clone();
                state.author = image.config.author.clone();
                if !image.config.architecture.is_empty() {
                    let own = Platform::of(&image.config);
                    state.platform = Platform::parse(&own.to_string()).unwrap_or(own);
                }
                (Base::Image(image), state, None)
            }
            Some(Found::Stage(stage)) => {
                let walked = self.walked[stage].clone();
                let walked = walked.map_or(state, |walked| Walked::clone(&walked));
                let base = walked.index.map_or(Base::Scratch, Base::Stage);
                (
                    base,
                    Walked {
                        index: None,
                        ..walked
                    },
                    None,
                )
            }
        })
    }
}
