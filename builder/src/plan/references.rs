//! What a name in FROM, `COPY --from` and `RUN --mount=from=` means: a named context, a stage, an image.

use rctr_storage::image::Image;
use rctr_storage::manifest::Platform;
use rctr_storage::reference::Reference;

use super::check;
use super::error::PlanError;
use super::images::ImageFailure;
use super::planner::Planner;
use crate::dockerfile::near;
use crate::request::NamedContext;
use crate::source::{Place, SourceError, Span};

/// Where a stage starts: nothing.
const SCRATCH: &str = "scratch";

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// The number of a stage in the file.
    Stage(usize),
    Scratch,
    /// A directory: `--build-context NAME=DIR`.
    Directory(String),
    Image(Box<Image>),
}

impl Planner<'_> {
    /// A sentence about a place.
    pub(super) fn wrong(
        &self,
        span: Span,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> PlanError {
        PlanError::Source(SourceError {
            message: message.into(),
            place: Some(self.place(span)),
            hint,
        })
    }

    pub(super) fn place(&self, span: Span) -> Place {
        Place {
            file: self.file.file.clone(),
            span,
        }
    }

    /// `--build-context` of that name; names of images are compared in their full form.
    pub(super) fn context(&self, name: &str) -> Option<(&String, &NamedContext)> {
        let contexts = &self.request.contexts;
        let reserved = [SCRATCH, "context"];
        if contexts.is_empty() || reserved.iter().any(|word| name.eq_ignore_ascii_case(word)) {
            return None;
        }
        let full = Reference::parse(name).ok();
        contexts.iter().find(|(known, _)| {
            known.eq_ignore_ascii_case(name)
                || full.is_some() && full == Reference::parse(known).ok()
        })
    }

    /// The context that stands in for a stage.
    pub(super) fn replacement(&self, stage: usize) -> Option<(&String, &NamedContext)> {
        let name = self.file.stages.get(stage)?.from.node.name.as_deref()?;
        self.context(name)
    }

    /// The stage of that name before stage `before`.
    pub(super) fn earlier_stage(&self, name: &str, before: usize) -> Option<usize> {
        (0..before).rev().find(|n| self.is_named(*n, name))
    }

    pub(super) fn is_named(&self, stage: usize, name: &str) -> bool {
        let own = self.file.stages[stage].from.node.name.as_deref();
        own.is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// The number of the stage that `name` means in stage `number` for `--from` and `from=`; `None`: it means no stage.
    pub(super) fn stage_from(
        &self,
        name: &str,
        number: usize,
        span: Span,
    ) -> Result<Option<usize>, PlanError> {
        let count = self.file.stages.len();
        let found = match name.parse::<usize>() {
            Ok(index) if index >= count => {
                let hint = format!("the stages are 0 to {}", count - 1);
                let message = format!("invalid stage index {index}");
                return Err(self.wrong(span, message, Some(hint)));
            }
            Ok(index) => Some(index),
            Err(_) => self
                .earlier_stage(name, number)
                .or_else(|| (number..count).find(|n| self.is_named(*n, name))),
        };
        match found {
            Some(stage) if stage == number => {
                let own = self.called(number);
                let message = format!("circular dependency detected on stage: {own}");
                let hint = "a stage can't use its own files as a source".to_owned();
                Err(self.wrong(span, message, Some(hint)))
            }
            Some(stage) if stage > number => {
                let (own, other) = (self.called(number), self.called(stage));
                let message = format!(
                    "cannot copy from stage {other:?}, it needs to be defined before current stage {own:?}"
                );
                let line = self.file.stages[stage].from.span.first;
                let hint = format!("stage {other} is defined later, at line {line}");
                Err(self.wrong(span, message, Some(hint)))
            }
            found => Ok(found),
        }
    }

    /// What `--from=NAME` or `from=NAME` means in stage `number`.
    pub(super) fn source(
        &mut self,
        name: &str,
        number: usize,
        span: Span,
    ) -> Result<Found, PlanError> {
        if let Some(found) = self.of_context(self.context(name).map(owned), span)? {
            return Ok(found);
        }
        if let Some(stage) = self.stage_from(name, number, span)? {
            let replacement = self.replacement(stage).map(owned);
            let replaced = self.of_context(replacement, span)?;
            return Ok(replaced.unwrap_or(Found::Stage(stage)));
        }
        if name == SCRATCH {
            return Ok(Found::Scratch);
        }
        let wanted = self.wanted.clone();
        Ok(Found::Image(Box::new(self.image(name, &wanted, span)?)))
    }

    /// What FROM names in stage `number`.
    pub(super) fn base(&mut self, number: usize) -> Result<Found, PlanError> {
        let span = self.file.stages[number].from.span;
        if let Some(found) = self.of_context(self.replacement(number).map(owned), span)? {
            return Ok(found);
        }
        let head = self.heads[number].clone();
        if let Some(stage) = head.base_stage {
            let replacement = self.replacement(stage).map(owned);
            let replaced = self.of_context(replacement, span)?;
            return Ok(replaced.unwrap_or(Found::Stage(stage)));
        }
        if head.image == SCRATCH {
            return Ok(Found::Scratch);
        }
        if let Some(found) = self.of_context(self.context(&head.image).map(owned), span)? {
            return Ok(found);
        }
        let wanted = head.platform.unwrap_or_else(|| self.wanted.clone());
        let image = self.image(&head.image, &wanted, span)?;
        self.accept_base(&head.image, &wanted, &image, span)?;
        Ok(Found::Image(Box::new(image)))
    }

    /// A warning if the image is of another architecture, an error if of another system.
    pub(super) fn accept_base(
        &mut self,
        name: &str,
        wanted: &Platform,
        image: &Image,
        span: Span,
    ) -> Result<(), PlanError> {
        let own = Platform::of(&image.config);
        if !own.os.is_empty() && own.os != "linux" {
            let message = format!("the base image {name} is for {}", own);
            let hint = "images are built for linux only: name a linux image in FROM".to_owned();
            return Err(self.wrong(span, message, Some(hint)));
        }
        if !own.architecture.is_empty() {
            check::base_platform(&mut self.findings, name, wanted, &own, span);
        }
        Ok(())
    }

    fn of_context(
        &mut self,
        context: Option<(String, NamedContext)>,
        span: Span,
    ) -> Result<Option<Found>, PlanError> {
        Ok(match context {
            None => None,
            Some((name, NamedContext::Directory(_))) => Some(Found::Directory(name)),
            Some((_, NamedContext::Image(reference))) => {
                let wanted = self.wanted.clone();
                let image = self.image(&reference, &wanted, span)?;
                Some(Found::Image(Box::new(image)))
            }
        })
    }

    /// An image by name, asked for once.
    fn image(&mut self, name: &str, wanted: &Platform, span: Span) -> Result<Image, PlanError> {
        if let Err(error) = Reference::parse(name) {
            let message = format!("failed to parse stage name {name:?}: {error}");
            let hint = self.meant(name, span).or_else(|| error.hint());
            return Err(self.wrong(span, message, hint));
        }
        let key = (name.to_owned(), wanted.to_string());
        if let Some(image) = self.known_images.get(&key) {
            return Ok(image.clone());
        }
        match self.images.find(name, wanted) {
            Ok(image) => {
                self.known_images.insert(key, image.clone());
                Ok(image)
            }
            Err(failure) => {
                let meant = self.meant(name, span).filter(|_| failure.not_found);
                let failure = ImageFailure {
                    hint: meant.or(failure.hint),
                    ..failure
                };
                Err(PlanError::image(name, self.place(span), failure))
            }
        }
    }

    /// What stage may have been meant by the name of an image that isn't there.
    fn meant(&self, name: &str, span: Span) -> Option<String> {
        let names = self.file.stages.iter().filter_map(|stage| {
            let own = stage.from.node.name.as_deref()?;
            Some((own, stage.from.span.first))
        });
        let names: Vec<(&str, usize)> = names.collect();
        let later =
            |(own, line): &&(&str, usize)| own.eq_ignore_ascii_case(name) && *line >= span.first;
        if let Some((own, line)) = names.iter().find(later) {
            return Some(format!(
                "stage {own} is defined at line {line}: only earlier stages can be named here"
            ));
        }
        let names: Vec<&str> = names.iter().map(|(own, _)| *own).collect();
        Some(format!("did you mean {}?", near(name, &names)?))
    }
}

fn owned((name, context): (&String, &NamedContext)) -> (String, NamedContext) {
    (name.clone(), context.clone())
}
