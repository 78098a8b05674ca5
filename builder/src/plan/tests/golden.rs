//! A whole Dockerfile, its plan written down.

use super::*;

const DOCKERFILE: &str = include_str!("golden/Dockerfile");
const PLAN: &str = include_str!("golden/plan.txt");
const CONFIG: &str = include_str!("golden/config.json");

fn written(plan: &Plan) -> String {
    let mut out = String::new();
    for stage in &plan.stages {
        let base = match &stage.base {
            Base::Scratch => "scratch".to_owned(),
            Base::Image(_) => format!("image {}", stage.base_name),
            Base::Stage(index) => format!("stage {index}"),
        };
        out.push_str(&format!("{}: {base}\n", stage.label));
        for step in &stage.steps {
            let operation = operation(&step.operation);
            out.push_str(&format!(
                "  {} {}: {operation}\n",
                step.span.first, step.name
            ));
        }
        out.push_str("  history:\n");
        for entry in &stage.history {
            let step = entry
                .step
                .map(|step| format!("{step} "))
                .unwrap_or_default();
            out.push_str(&format!("    {step}{}\n", entry.created_by));
        }
    }
    out
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Run(run) => format!("run {:?}", run.argv),
        Operation::Workdir(workdir) => format!("workdir {}", workdir.path.display()),
        Operation::Copy(copy) => {
            let from = match &copy.from {
                CopyFrom::Context => "the context".to_owned(),
                CopyFrom::Stage(index) => format!("stage {index}"),
                other => format!("{other:?}"),
            };
            let path = |source: &PlannedSource| match source {
                PlannedSource::Path(path) => path.clone(),
                other => format!("{other:?}"),
            };
            let sources: Vec<_> = copy.sources.iter().map(path).collect();
            format!("copy {sources:?} to {} from {from}", copy.destination)
        }
    }
}

#[test]
fn a_whole_dockerfile() {
    let platform = Platform::parse("linux/amd64").unwrap();
    let request = BuildRequest {
        platform: Some(platform.clone()),
        ..BuildRequest::default()
    };
    let config = ContainerConfig::default();
    let shelf = Shelf::default().with_platform("alpine", config, &platform);
    let plan = planned_with(DOCKERFILE, &request, &shelf).unwrap();
    assert_eq!(written(&plan), PLAN);
    let config = serde_json::to_string_pretty(&target(&plan).config).unwrap();
    assert_eq!(config, CONFIG.trim_end());
}
