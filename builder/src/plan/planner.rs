//! From stages as they are written to those that the target needs, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rctr_storage::image::Image;
use rctr_storage::manifest::Platform;

use super::check::{self, Findings};
use super::error::PlanError;
use super::images::Images;
use super::mount;
use super::scope::{self, Expander, Globals};
use super::stage::{Purpose, Walked};
use super::types::{Plan, PlannedStage};
use crate::dockerfile::{Dockerfile, Instruction, near};
use crate::request::BuildRequest;
use crate::source::{SourceError, Warning};

/// A FROM line with its variables expanded.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) image: String,
    /// `--platform`.
    pub(super) platform: Option<Platform>,
    /// The number of the earlier stage that it names.
    pub(super) base_stage: Option<usize>,
}

/// Whether base images are looked up where only findings are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    Yes,
    No,
}

/// Everything that is known while a plan is made.
pub(super) struct Planner<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) request: &'a BuildRequest,
    pub(super) images: &'a dyn Images,
    /// Those of the request, and `SOURCE_DATE_EPOCH`.
    pub(super) build_args: BTreeMap<String, String>,
    pub(super) globals: Globals,
    /// What is built for where FROM doesn't say.
    pub(super) wanted: Platform,
    /// One for each stage of the file.
    pub(super) heads: Vec<Head>,
    pub(super) findings: Findings,
    /// Names of ARGs that triggers of base images declare.
    pub(super) triggered_args: BTreeSet<String>,
    /// By name and platform.
    pub(super) known_images: BTreeMap<(String, String), Image>,
    /// By number in the file.
    pub(super) walked: Vec<Option<Rc<Walked>>>,
    pub(super) stages: Vec<PlannedStage>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        file: &'a Dockerfile,
        request: &'a BuildRequest,
        images: &'a dyn Images,
    ) -> Result<Self, PlanError> {
        const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";
        let option = request.build_args.get(CHECK).map(String::as_str);
        let findings = Findings::new(file, option).map_err(|fault| SourceError {
            message: format!("{CHECK}: {}", fault.message),
            place: None,
            hint: fault.hint,
        })?;
        let mut build_args = request.build_args.clone();
        if let Some(epoch) = request.epoch {
            let name = "SOURCE_DATE_EPOCH".to_owned();
            build_args.entry(name).or_insert_with(|| epoch.to_string());
        }
        let mut planner = Self {
            file,
            request,
            images,
            build_args,
            globals: Globals::default(),
            wanted: request.platform.clone().unwrap_or_else(Platform::host),
            heads: Vec::new(),
            findings,
            triggered_args: BTreeSet::new(),
            known_images: BTreeMap::new(),
            walked: vec![None; file.stages.len()],
            stages: Vec::new(),
        };
        planner.evaluate_globals()?;
        for number in 0..file.stages.len() {
            let head = planner.head(number)?;
            planner.heads.push(head);
        }
        Ok(planner)
    }

    fn evaluate_globals(&mut self) -> Result<(), PlanError> {
        let last = self.file.stages.last();
        let last = last.and_then(|stage| stage.from.node.name.as_deref());
        let target = self.request.target.as_deref().or(last);
        let predefined = scope::predefined(self.request, target);
        check::default_base_names(&mut self.findings, self.file, &predefined);
        let escape = self.file.directives.escape;
        let args = &self.file.global_args;
        self.globals = Globals::new(args, &self.build_args, &predefined, escape)
            .map_err(|(located, error)| self.wrong(located.span, error.to_string(), None))?;
        Ok(())
    }

    /// Expands a FROM line.
    fn head(&mut self, number: usize) -> Result<Head, PlanError> {
        let stage = &self.file.stages[number];
        let (from, span) = (&stage.from.node, stage.from.span);
        let expander = Expander::new(&self.globals.variables, self.file.directives.escape);
        let image = expander
            .word(&from.image)
            .map_err(|error| self.wrong(span, error.to_string(), None))?;
        check::undefined_in_from(&mut self.findings, &expander, &self.globals, span);
        if image.is_empty() {
            let message = format!("base name ({}) should not be blank", from.image);
            return Err(self.wrong(span, message, self.unset_hint(&expander)));
        }
        Ok(Head {
            base_stage: self.earlier_stage(&image, number),
            image,
            platform: self.platform_flag(number)?,
        })
    }

    fn platform_flag(&mut self, number: usize) -> Result<Option<Platform>, PlanError> {
        let stage = &self.file.stages[number];
        let span = stage.from.span;
        let Some(written) = &stage.from.node.platform else {
            return Ok(None);
        };
        let expander = Expander::new(&self.globals.variables, self.file.directives.escape);
        let value = expander
            .word(written)
            .map_err(|error| self.wrong(span, error.to_string(), None))?;
        check::undefined_in_from(&mut self.findings, &expander, &self.globals, span);
        check::platform_flag(&mut self.findings, stage, &expander, &value);
        if value.is_empty() {
            let message = format!("empty platform value from expression {written}");
            return Err(self.wrong(span, message, self.unset_hint(&expander)));
        }
        let platform = Platform::parse(&value).map_err(|error| {
            let message = format!("failed to parse platform {written}: {error}");
            self.wrong(span, message, self.unset_hint(&expander))
        })?;
        Ok(Some(platform))
    }

    /// What to do about variables of a FROM line that have no value.
    fn unset_hint(&self, expander: &Expander<'_>) -> Option<String> {
        let missing = expander.missing();
        let name = missing.first()?;
        let meant = near(name, &self.globals.variables.names());
        Some(match meant {
            Some(meant) => format!("did you mean ${meant}?"),
            None => format!(
                "give it a value with ARG {name}=… before the first FROM, or --build-arg {name}=…"
            ),
        })
    }

    /// The number of the stage that is wanted.
    pub(super) fn target(&self) -> Result<usize, PlanError> {
        let count = self.file.stages.len();
        let Some(wanted) = &self.request.target else {
            return Ok(count - 1);
        };
        let by_number = || wanted.parse().ok().filter(|number| *number < count);
        if let Some(number) = self.earlier_stage(wanted, count).or_else(by_number) {
            return Ok(number);
        }
        let stages = self.file.stages.iter();
        let names: Vec<&str> = stages.filter_map(|s| s.from.node.name.as_deref()).collect();
        let is_number = wanted.parse::<usize>().is_ok();
        let hint = match near(wanted, &names).filter(|_| !is_number) {
            Some(name) => format!("did you mean {name}?"),
            None if is_number || names.is_empty() => format!("the stages are 0 to {}", count - 1),
            None => format!("the stages are {}", names.join(", ")),
        };
        Err(PlanError::Source(SourceError {
            message: format!("target stage {wanted:?} could not be found"),
            place: None,
            hint: Some(hint),
        }))
    }

    /// What a stage is called in progress: the only one of a file needs no name.
    pub(super) fn label(&self, number: usize) -> String {
        let name = &self.file.stages[number].from.node.name;
        if name.is_none() && self.file.stages.len() == 1 {
            return String::new();
        }
        self.called(number)
    }

    /// What a stage is called in messages.
    pub(super) fn called(&self, number: usize) -> String {
        let name = self.file.stages[number].from.node.name.clone();
        name.unwrap_or_else(|| format!("stage-{number}"))
    }

    /// Plans a stage and all that it needs, in the order of the file: a stage needs only earlier ones.
    pub(super) fn stage(&mut self, number: usize) -> Result<Rc<Walked>, PlanError> {
        let mut needed = BTreeSet::from([number]);
        let mut open = vec![number];
        while let Some(stage) = open.pop() {
            for other in self.needs(stage) {
                if needed.insert(other) {
                    open.push(other);
                }
            }
        }
        for stage in needed {
            if self.walked[stage].is_none() {
                let walked = self.walk(stage, Purpose::Build)?;
                self.walked[stage] = Some(Rc::new(walked));
            }
        }
        Ok(self.walked[number]
            .clone()
            .expect("it is among the needed ones"))
    }

    /// The stages that a stage names. What is wrong with a name is found where it is used.
    fn needs(&self, number: usize) -> Vec<usize> {
        if self.replacement(number).is_some() {
            return Vec::new();
        }
        let mut needs: Vec<usize> = self.heads[number].base_stage.into_iter().collect();
        for located in &self.file.stages[number].instructions {
            let names: Vec<&str> = match &located.node {
                Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
                Instruction::Run(run) => run.mounts.iter().filter_map(mount::source_name).collect(),
                _ => continue,
            };
            for name in names {
                if self.context(name).is_none()
                    && let Ok(Some(stage)) = self.stage_from(name, number, located.span)
                {
                    needs.push(stage);
                }
            }
        }
        needs.retain(|stage| self.replacement(*stage).is_none());
        needs
    }

    /// Goes through the stages that weren't planned, for what the checks find in them.
    pub(super) fn scout(&mut self, lookup: Lookup) {
        for number in 0..self.file.stages.len() {
            if self.walked[number].is_none() {
                // Errors in a stage that isn't built are none.
                let walked = self.walk(number, Purpose::Scout(lookup)).ok();
                self.walked[number] = walked.map(Rc::new);
            }
        }
    }

    /// The plan, whose last stage is the target.
    pub(super) fn finish(mut self) -> Result<Plan, PlanError> {
        let notes = self.unused_build_args().into_iter().collect();
        let epoch = self.epoch()?;
        let hostname = self.request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        if let Some(target) = self.stages.last_mut() {
            let labels = self.request.labels.clone();
            target.config.labels.extend(labels);
            if let Some(platform) = &self.request.platform {
                target.platform = platform.clone();
            }
        }
        let are_errors = self.findings.are_errors();
        let warnings = self.findings.sorted();
        if are_errors {
            return Err(PlanError::Checks { warnings });
        }
        Ok(Plan {
            file: self.file.file.clone(),
            stages: self.stages,
            warnings,
            notes,
            epoch,
            hostname: hostname.filter(|name| !name.is_empty()).cloned(),
        })
    }

    /// All that the checks find.
    pub(super) fn into_findings(self) -> Vec<Warning> {
        self.findings.sorted()
    }

    fn epoch(&self) -> Result<Option<i64>, PlanError> {
        let name = "SOURCE_DATE_EPOCH";
        let value = match self.build_args.get(name) {
            Some(value) => Some(value.as_str()),
            None => self.globals.variables.get(name),
        };
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let epoch = value.parse().map_err(|_| SourceError {
            message: format!("invalid SOURCE_DATE_EPOCH: {value}"),
            place: None,
            hint: Some(
                "want seconds since 1970-01-01T00:00:00Z, for example 1700000000".to_owned(),
            ),
        })?;
        Ok(Some(epoch))
    }

    /// A sentence about `--build-arg`s that no ARG of the file takes.
    fn unused_build_args(&self) -> Option<String> {
        let mut declared: BTreeSet<&str> = self.globals.variables.names().into_iter().collect();
        declared.extend(self.globals.declared.iter().map(String::as_str));
        declared.extend(self.triggered_args.iter().map(String::as_str));
        let instructions = self
            .file
            .stages
            .iter()
            .flat_map(|stage| &stage.instructions);
        for located in instructions {
            if let Instruction::Arg(arguments) = &located.node {
                declared.extend(arguments.iter().map(|argument| argument.name.as_str()));
            }
        }
        let given = self.request.build_args.keys().map(String::as_str);
        let unused: Vec<&str> = given
            .filter(|name| !declared.contains(name) && !scope::is_for_builder(name))
            .collect();
        if unused.is_empty() {
            return None;
        }
        let known: Vec<&str> = declared.into_iter().collect();
        let meant = unused.iter().find_map(|name| near(name, &known));
        let meant = meant
            .map(|name| format!(" (did you mean {name}?)"))
            .unwrap_or_default();
        let names = unused.join(" ");
        Some(format!(
            "[Warning] One or more build-args [{names}] were not consumed{meant}"
        ))
    }
}
