//! Variables: what the words of a Dockerfile see, and the ARGs before the first FROM.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::dockerfile::expand::{ExpandError, Scope};
use crate::dockerfile::{Argument, Located};
use crate::request::BuildRequest;
use rctr_storage::manifest::Platform;

/// Names and values in the order of their first appearance.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    list: Vec<(String, String)>,
    /// Where in the list.
    places: HashMap<String, usize>,
}

impl Variables {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let place = self.places.get(name)?;
        Some(&self.list[*place].1)
    }

    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.places.get(name) {
            Some(place) => value.clone_into(&mut self.list[*place].1),
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.list.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// `NAME=value`.
    pub(super) fn entries(&self) -> Vec<String> {
        let entry = |(name, value): &(String, String)| format!("{name}={value}");
        self.list.iter().map(entry).collect()
    }
}

/// Expands words and remembers which variables they asked for.
pub(super) struct Expander<'v> {
    variables: &'v Variables,
    escape: char,
    used: RefCell<BTreeSet<String>>,
    missing: RefCell<BTreeSet<String>>,
}

impl<'v> Expander<'v> {
    pub(super) fn new(variables: &'v Variables, escape: char) -> Self {
        Self {
            variables,
            escape,
            used: RefCell::default(),
            missing: RefCell::default(),
        }
    }

    /// One word: quotes are removed, variables put in.
    pub(super) fn word(&self, text: &str) -> Result<String, ExpandError> {
        self.with_scope(|scope| scope.word(text))
    }

    /// Blanks that come from variables split it.
    pub(super) fn words(&self, text: &str) -> Result<Vec<String>, ExpandError> {
        self.with_scope(|scope| scope.words(text))
    }

    /// Variables only, as in a heredoc.
    pub(super) fn raw(&self, text: &str) -> Result<String, ExpandError> {
        self.with_scope(|scope| scope.raw(text))
    }

    fn with_scope<T>(&self, expand: impl FnOnce(&Scope<'_>) -> T) -> T {
        let get = |name: &str| {
            let value = self.variables.get(name)?.to_owned();
            self.used.borrow_mut().insert(name.to_owned());
            Some(value)
        };
        let scope = Scope::new(&get, self.escape);
        let expanded = expand(&scope);
        self.missing.borrow_mut().extend(scope.missing());
        expanded
    }

    /// The variables that are there and were asked for.
    pub(super) fn used(&self) -> Vec<String> {
        self.used.borrow().iter().cloned().collect()
    }

    /// The variables that aren't there, where nothing stands in for them.
    pub(super) fn missing(&self) -> Vec<String> {
        self.missing.borrow().iter().cloned().collect()
    }
}

/// ARGs before the first FROM, with the predefined ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Globals {
    pub(super) variables: Variables,
    /// All names that were declared, with or without a value.
    pub(super) declared: Vec<String>,
}

impl Globals {
    /// Evaluates them, upon the `predefined` ones; `build_args` win.
    ///
    /// # Errors
    /// The place in `args` and what is wrong there.
    pub(super) fn new<'f>(
        args: &'f [Located<Vec<Argument>>],
        build_args: &BTreeMap<String, String>,
        predefined: &Variables,
        escape: char,
    ) -> Result<Self, (&'f Located<Vec<Argument>>, ExpandError)> {
        let mut globals = Self {
            variables: predefined.clone(),
            declared: Vec::new(),
        };
        for located in args {
            for argument in &located.node {
                let value = match (build_args.get(&argument.name), &argument.default) {
                    (Some(value), _) => Some(value.clone()),
                    (None, Some(text)) => {
                        let expander = Expander::new(&globals.variables, escape);
                        Some(expander.word(text).map_err(|error| (located, error))?)
                    }
                    (None, None) => None,
                };
                if let Some(value) = value {
                    globals.variables.set(&argument.name, &value);
                }
                globals.declared.push(argument.name.clone());
            }
        }
        Ok(globals)
    }
}

/// `TARGETPLATFORM` and its like, over which `--build-arg` wins.
pub(super) fn predefined(request: &BuildRequest, target: Option<&str>) -> Variables {
    let build = Platform::host();
    let wanted = request.platform.clone().unwrap_or_else(Platform::host);
    let mut variables = Variables::default();
    for (prefix, platform) in [("BUILD", &build), ("TARGET", &wanted)] {
        let variant = platform.variant.clone().unwrap_or_default();
        for (suffix, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", variant),
        ] {
            variables.set(&format!("{prefix}{suffix}"), &value);
        }
    }
    variables.set("TARGETSTAGE", target.unwrap_or("default"));
    for name in variables.clone().names() {
        if let Some(value) = request.build_args.get(name) {
            variables.set(name, value);
        }
    }
    variables
}

/// Proxies: ARGs that need no declaration and leave no trace.
const PROXIES: &[&str] = &[
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "all_proxy",
];

/// Whether `name` is a predefined proxy ARG.
pub(super) fn is_proxy(name: &str) -> bool {
    PROXIES.contains(&name.to_ascii_lowercase().as_str())
}

/// The proxies of `--build-arg`, each in both cases of letters, for programs look for either.
pub(super) fn proxies(build_args: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut found = BTreeMap::new();
    // Capitals sort first, so that lower case wins, as BuildKit has it.
    for (name, value) in build_args.iter().filter(|(name, _)| is_proxy(name)) {
        found.insert(name.to_ascii_uppercase(), value);
        found.insert(name.to_ascii_lowercase(), value);
    }
    found
        .into_iter()
        .map(|(name, value)| (name, value.clone()))
        .collect()
}

/// Whether `name` means something to the builder itself, declared or not.
pub(super) fn is_for_builder(name: &str) -> bool {
    is_proxy(name) || name == "SOURCE_DATE_EPOCH" || name.starts_with("BUILDKIT_")
}
