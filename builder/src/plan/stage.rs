//! One stage: its instructions in order, each changing variables and config, some making a step.

use std::path::PathBuf;
use std::rc::Rc;

use rctr_storage::config::ContainerConfig;
use rctr_storage::manifest::Platform;

use super::check;
use super::config::{self, SetHere};
use super::copy::{self, Kind};
use super::error::PlanError;
use super::mount;
use super::planner::{Lookup, Planner};
use super::references::Found;
use super::run;
use super::scope::{self, Expander, Variables};
use super::secret;
use super::types::{
    CopyFrom, CopyStep, HistoryEntry, Operation, PlannedSource, PlannedStage, RunMount,
    RunMountFrom, RunStep, Step, WorkdirStep,
};
use super::words;
use crate::dockerfile::{
    self, Argument, CopyInstruction, Instruction, Located, MountFlag, RunInstruction, SecurityFlag,
};
use crate::source::Span;

/// Why a stage is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Build,
    /// Only for findings: what it refers to isn't looked up (base images, if asked), errors are passed over.
    Scout(Lookup),
}

/// What a stage leaves to those that start from it or copy from it.
#[derive(Debug, Clone)]
pub(super) struct Walked {
    /// In the plan's stages; `None`: it isn't there.
    pub(super) index: Option<usize>,
    pub(super) config: ContainerConfig,
    pub(super) author: Option<String>,
    pub(super) platform: Platform,
    /// ENV and ARG.
    pub(super) variables: Variables,
    /// ARGs in the order of their declaration.
    pub(super) arguments: Vec<(String, Option<String>)>,
    /// WORKDIR was given in this file.
    pub(super) workdir_set: bool,
    /// All variables of the base image are known.
    pub(super) complete: bool,
}

/// Names that mean something to BuildKit's tools and are never in the environment.
const NOT_IN_ENVIRONMENT: &[&str] = &["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

struct Walker<'p, 'a> {
    planner: &'p mut Planner<'a>,
    number: usize,
    purpose: Purpose,
    state: Walked,
    set: SetHere,
    steps: Vec<Step>,
    history: Vec<HistoryEntry>,
}

/// Whether an instruction comes from an ONBUILD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Written,
    Trigger,
}

impl Planner<'_> {
    /// Goes through a stage, all that it needs having been gone through.
    pub(super) fn walk(&mut self, number: usize, purpose: Purpose) -> Result<Walked, PlanError> {
        let (base, state, directory) = self.start(number, purpose)?;
        let stage = &self.file.stages[number];
        let span = stage.from.span;
        let is_replaced = self.replacement(number).is_some();
        let mut walker = Walker {
            number,
            purpose,
            state,
            set: SetHere::default(),
            steps: Vec::new(),
            history: Vec::new(),
            planner: self,
        };
        walker.enter_base();
        if let Some(name) = directory {
            walker.copy_directory(name, span);
        }
        if !is_replaced {
            walker.triggers(span)?;
            for located in &stage.instructions {
                walker.instruction(located, Origin::Written)?;
            }
        }
        let (steps, history, mut walked) = (walker.steps, walker.history, walker.state);
        if purpose == Purpose::Build {
            walked.index = Some(self.stages.len());
            let planned = PlannedStage {
                name: stage.from.node.name.clone(),
                label: self.label(number),
                base,
                base_name: self.heads[number].image.clone(),
                span,
                steps,
                config: walked.config.clone(),
                author: walked.author.clone(),
                platform: walked.platform.clone(),
                history,
            };
            self.stages.push(planned);
        }
        Ok(walked)
    }
}

impl Walker<'_, '_> {
    /// `PATH` is always there, and the base's ENV wins over ARGs of the stage that this one starts from.
    fn enter_base(&mut self) {
        let env = &mut self.state.config.env;
        if config::get_env(env, "PATH").is_none() {
            config::set_env(env, "PATH", config::DEFAULT_PATH);
        }
        for entry in env.iter() {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.state.variables.set(name, value);
        }
    }

    /// A stage that starts from a named directory is filled with it.
    fn copy_directory(&mut self, name: String, span: Span) {
        let step = CopyStep {
            sources: vec![PlannedSource::Path("/".to_owned())],
            from: CopyFrom::Named(name.clone()),
            destination: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
            checksum: None,
            keep_git_dir: false,
            unpack_local: false,
            unpack_remote: false,
        };
        let created_by = format!("COPY / / # context {name}");
        self.add_step(
            span,
            format!("FROM {name}"),
            Operation::Copy(step),
            created_by,
        );
    }

    /// ONBUILD of the base runs first, in FROM's place, and isn't inherited further.
    fn triggers(&mut self, span: Span) -> Result<(), PlanError> {
        for trigger in std::mem::take(&mut self.state.config.on_build) {
            let file = &self.planner.file.file;
            let located = dockerfile::parse_onbuild(&trigger, file, span)?;
            if let Instruction::Arg(arguments) = &located.node {
                let names = arguments.iter().map(|argument| argument.name.clone());
                self.planner.triggered_args.extend(names);
            }
            self.instruction(&located, Origin::Trigger)?;
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        located: &Located<Instruction>,
        origin: Origin,
    ) -> Result<(), PlanError> {
        match (self.apply(located, origin), self.purpose) {
            (Err(_), Purpose::Scout(_)) => Ok(()),
            (result, _) => result,
        }
    }

    fn apply(&mut self, located: &Located<Instruction>, origin: Origin) -> Result<(), PlanError> {
        let span = located.span;
        let instruction = {
            let expander = self.expander();
            let expanded = words::expand(&located.node, &expander);
            let missing = expander.missing();
            self.report_missing(&missing, span);
            expanded.map_err(|error| self.planner.wrong(span, error.to_string(), None))?
        };
        check::secret_names(&mut self.planner.findings, &instruction, span);
        match &instruction {
            Instruction::Arg(arguments) => return self.argument(arguments, span),
            Instruction::Run(run) => return self.run(located, run, origin),
            Instruction::Add(copy) => return self.copy(located, Kind::Add, copy, origin),
            Instruction::Copy(copy) => return self.copy(located, Kind::Copy, copy, origin),
            Instruction::Workdir(path) if !self.state.workdir_set => {
                check::relative_workdir(&mut self.planner.findings, path, span);
                self.state.workdir_set = true;
            }
            Instruction::Env(pairs) => self.examine("ENV", pairs, span)?,
            Instruction::Label(pairs) => self.examine("LABEL", pairs, span)?,
            Instruction::Maintainer(name) => self.state.author = Some(name.clone()),
            _ => {}
        }
        config::apply(&mut self.state.config, &mut self.set, &instruction)
            .map_err(|error| self.planner.wrong(span, error.to_string(), None))?;
        match &instruction {
            Instruction::Env(pairs) => {
                for (name, value) in pairs {
                    self.state.variables.set(name, value);
                }
            }
            Instruction::Cmd(_) => config::mark_args_escaped(&mut self.state.config),
            Instruction::Workdir(_) => return self.workdir(located, &instruction, origin),
            _ => {}
        }
        if let Some(created_by) = config::created_by(&self.state.config, &instruction) {
            self.history.push(HistoryEntry {
                created_by,
                step: None,
            });
        }
        Ok(())
    }

    fn expander(&self) -> Expander<'_> {
        let escape = self.planner.file.directives.escape;
        Expander::new(&self.state.variables, escape)
    }

    fn report_missing(&mut self, missing: &[String], span: Span) {
        // What the base image would define can't be told from what nobody does.
        if self.state.complete {
            let (arguments, variables) = (&self.state.arguments, &self.state.variables);
            check::undefined(
                &mut self.planner.findings,
                missing,
                arguments,
                variables,
                span,
            );
        }
    }

    /// ARG: `--build-arg`, else the default, else the global value.
    fn argument(&mut self, arguments: &[Argument], span: Span) -> Result<(), PlanError> {
        let mut shown = Vec::new();
        for Argument { name, default } in arguments {
            let given = self.planner.build_args.get(name).cloned();
            let value = match (given, default) {
                (Some(value), _) => Some(value),
                (None, Some(text)) => Some(self.default_of(text, span)?),
                (None, None) => self.planner.globals.variables.get(name).map(str::to_owned),
            };
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            if let Some(value) = &value {
                self.examine("ARG", &[(name.clone(), value.clone())], span)?;
            }
            if let Some(value) = &value
                && !NOT_IN_ENVIRONMENT.contains(&name.as_str())
            {
                self.state.variables.set(name, value);
            }
            self.state.arguments.push((name.clone(), value));
        }
        self.history.push(HistoryEntry {
            created_by: format!("ARG {}", shown.join(" ")),
            step: None,
        });
        Ok(())
    }

    /// Warns of secrets, or refuses them.
    fn examine(
        &mut self,
        instruction: &str,
        pairs: &[(String, String)],
        span: Span,
    ) -> Result<(), PlanError> {
        let policy = self.planner.request.baked_secrets;
        let values = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let findings = &mut self.planner.findings;
        secret::examine(findings, policy, instruction, values, span).map_err(|message| {
            self.planner
                .wrong(span, message, Some(secret::HINT.to_owned()))
        })
    }

    fn default_of(&mut self, text: &str, span: Span) -> Result<String, PlanError> {
        let expander = self.expander();
        let value = expander.word(text);
        let missing = expander.missing();
        self.report_missing(&missing, span);
        value.map_err(|error| self.planner.wrong(span, error.to_string(), None))
    }

    fn run(
        &mut self,
        located: &Located<Instruction>,
        run: &RunInstruction,
        origin: Origin,
    ) -> Result<(), PlanError> {
        let span = located.span;
        if run.security == SecurityFlag::Insecure && !self.planner.request.allow_insecure {
            let hint = "build with --allow security.insecure if this Dockerfile is to be trusted";
            let message = "security.insecure is not allowed";
            return Err(self.planner.wrong(span, message, Some(hint.to_owned())));
        }
        let command = run::command(&self.state.config, run)
            .map_err(|message| self.planner.wrong(span, message, None))?;
        let (arguments, variables) = (&self.state.arguments, &self.state.variables);
        let created_by = run::created_by(&command.argv, arguments, variables);
        let set = |name: &str| variables.get(name).is_some();
        let proxies = scope::proxies(&self.planner.request.build_args);
        let proxies = proxies.into_iter().filter(|(name, _)| !set(name));
        let step = RunStep {
            argv: command.argv,
            env: variables.entries(),
            proxies: proxies
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            cwd: PathBuf::from(self.cwd()),
            user: self.state.config.user.clone(),
            files: command.files,
            mounts: self.mounts(&run.mounts, span)?,
            network: run.network,
            security: run.security,
        };
        let mut name = shown(&located.text, origin);
        if let Some(summary) = run::summary(run) {
            name = format!("{name} {summary}");
        }
        self.add_step(span, name, Operation::Run(step), created_by);
        Ok(())
    }

    fn mounts(&mut self, flags: &[MountFlag], span: Span) -> Result<Vec<RunMount>, PlanError> {
        let namespace = self
            .planner
            .request
            .build_args
            .get("BUILDKIT_CACHE_MOUNT_NS")
            .cloned();
        let mut mounts = Vec::new();
        for flag in flags {
            let from = match mount::source_name(flag) {
                // A name with a variable in it is refused below.
                Some(name) if !name.contains('$') => Some(self.mount_from(name, span)?),
                _ => None,
            };
            let mount = mount::parse(flag, from, &self.cwd(), namespace.as_deref())
                .map_err(|bad| self.planner.wrong(span, bad.message, bad.hint))?;
            mounts.push(mount);
        }
        Ok(mounts)
    }

    fn mount_from(&mut self, name: &str, span: Span) -> Result<RunMountFrom, PlanError> {
        if self.purpose != Purpose::Build {
            return Ok(RunMountFrom::Scratch);
        }
        Ok(match self.planner.source(name, self.number, span)? {
            Found::Stage(stage) => RunMountFrom::Stage(self.planned(stage)?),
            Found::Scratch => RunMountFrom::Scratch,
            Found::Directory(name) => RunMountFrom::Named(name),
            Found::Image(image) => RunMountFrom::Image(self.planner.images.layers(&image)),
        })
    }

    fn copy(
        &mut self,
        located: &Located<Instruction>,
        kind: Kind,
        copy: &CopyInstruction,
        origin: Origin,
    ) -> Result<(), PlanError> {
        let span = located.span;
        let from = self.copy_from(copy.from.as_deref(), span)?;
        let step = copy::step(kind, copy, from, &self.cwd())
            .map_err(|(message, hint)| self.planner.wrong(span, message, hint))?;
        let name = self.expanded_name(&located.text, origin);
        let created_by = copy::created_by(kind, copy);
        self.add_step(span, name, Operation::Copy(step), created_by);
        Ok(())
    }

    fn copy_from(&mut self, from: Option<&str>, span: Span) -> Result<CopyFrom, PlanError> {
        let Some(name) = from.filter(|_| self.purpose == Purpose::Build) else {
            return Ok(CopyFrom::Context);
        };
        if name.contains('$') {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
            return Err(self.planner.wrong(span, message, None));
        }
        Ok(match self.planner.source(name, self.number, span)? {
            Found::Stage(stage) => CopyFrom::Stage(self.planned(stage)?),
            Found::Directory(name) => CopyFrom::Named(name),
            Found::Image(image) => {
                CopyFrom::Image(image.id.hex(), self.planner.images.layers(&image))
            }
            Found::Scratch => {
                let message = "scratch has no files that could be copied";
                return Err(self.planner.wrong(span, message, None));
            }
        })
    }

    /// The place of an earlier stage in the plan, where it may be missing still: triggers name stages, too.
    fn planned(&mut self, stage: usize) -> Result<usize, PlanError> {
        let walked: Rc<Walked> = self.planner.stage(stage)?;
        Ok(walked
            .index
            .expect("a stage that was walked for the build is in the plan"))
    }

    fn workdir(
        &mut self,
        located: &Located<Instruction>,
        instruction: &Instruction,
        origin: Origin,
    ) -> Result<(), PlanError> {
        let config = &self.state.config;
        let created_by = config::created_by(config, instruction).unwrap_or_default();
        if config.working_dir == "/" {
            self.history.push(HistoryEntry {
                created_by,
                step: None,
            });
            return Ok(());
        }
        let step = WorkdirStep {
            path: PathBuf::from(&config.working_dir),
            user: config.user.clone(),
        };
        let name = self.expanded_name(&located.text, origin);
        self.add_step(located.span, name, Operation::Workdir(step), created_by);
        Ok(())
    }

    fn cwd(&self) -> String {
        match self.state.config.working_dir.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        }
    }

    fn expanded_name(&self, text: &str, origin: Origin) -> String {
        let expanded = self.expander().word(text);
        shown(&expanded.unwrap_or_else(|_| text.to_owned()), origin)
    }

    fn add_step(&mut self, span: Span, name: String, operation: Operation, created_by: String) {
        self.history.push(HistoryEntry {
            created_by,
            step: Some(self.steps.len()),
        });
        self.steps.push(Step {
            span,
            name,
            operation,
        });
    }
}

/// As progress shows it: the instruction's name in capitals.
fn shown(text: &str, origin: Origin) -> String {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let line = format!("{} {}", word.to_ascii_uppercase(), rest.trim_start());
    match origin {
        Origin::Written => line,
        Origin::Trigger => format!("ONBUILD {line}"),
    }
}
