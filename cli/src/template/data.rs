//! What a template is given: values with Go's kinds.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

/// A value of one of Go's kinds. Cloning is cheap.
#[derive(Clone)]
pub(crate) enum Data {
    /// Nothing: a map's missing entry.
    NoValue,
    /// A nil of the given kind.
    Nil(Kind),
    /// `bool`.
    Bool(bool),
    /// Any whole number.
    Int(i64),
    /// `float64`.
    Float(f64),
    /// `string`.
    Text(Rc<str>),
    /// A slice.
    List(Rc<[Data]>),
    /// A map with string keys; the kind is what a missing entry is the zero value of.
    Map(Rc<BTreeMap<String, Data>>, Kind),
    /// A struct: only these names exist.
    Struct(Rc<[Field]>),
    /// A method with one argument: `.Label "key"`.
    Method(Rc<dyn Fn(&str) -> String>),
}

/// A field of a struct.
pub(crate) struct Field {
    /// As in JSON.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: Data,
    /// Known, but left out of JSON (Go's `omitempty` on a zero value).
    pub(crate) omitted: bool,
}

/// What JSON alone can't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pointer to a struct.
    Pointer,
    /// A string.
    Text,
    /// A number.
    Int,
    /// A truth value.
    Bool,
    /// A slice.
    List,
    /// A map of strings.
    TextMap,
    /// A map of slices.
    ListMap,
    /// A map of structs.
    StructMap,
}

impl Kind {
    /// Go's zero value.
    fn zero(self) -> Data {
        match self {
            Self::Text => Data::text(""),
            Self::Int => Data::Int(0),
            Self::Bool => Data::Bool(false),
            kind => Data::Nil(kind),
        }
    }

    /// The kind of a map's entries.
    fn element(self) -> Self {
        match self {
            Self::TextMap => Self::Text,
            Self::ListMap => Self::List,
            _ => Self::Pointer,
        }
    }
}

/// The Go types behind a JSON document: dotted paths (list elements and map entries add nothing and `*`) and the kinds
/// of what is a map, or may be null or left out. Any other object is a struct, any other null an empty slice.
pub(crate) struct Schema(pub(crate) &'static [(&'static str, Kind)]);

impl Schema {
    fn kind(&self, path: &str) -> Option<Kind> {
        self.0.iter().find(|(p, _)| *p == path).map(|(_, k)| *k)
    }

    /// Fields directly below `path`.
    fn fields(&self, path: &str) -> impl Iterator<Item = (&'static str, Kind)> {
        self.0.iter().filter_map(move |(p, kind)| {
            let (parent, name) = p.rsplit_once('.').unwrap_or(("", p));
            (parent == path && name != "*").then_some((name, *kind))
        })
    }
}

impl Data {
    /// A string.
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(text.as_ref()))
    }

    /// A slice.
    pub(crate) fn list(items: impl IntoIterator<Item = Self>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// A struct, fields in this order.
    pub(crate) fn fields<N: Into<String>>(fields: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::Struct(
            fields
                .into_iter()
                .map(|(name, value)| Field {
                    name: name.into(),
                    value,
                    omitted: false,
                })
                .collect(),
        )
    }

    /// A JSON document with Go's types.
    pub(crate) fn typed(value: &Value, schema: &Schema) -> Self {
        convert(value, schema, "")
    }

    /// Whether `if` takes its first branch.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::NoValue | Self::Nil(_) => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(x) => *x != 0.0,
            Self::Text(s) => !s.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(entries, _) => !entries.is_empty(),
            Self::Struct(_) | Self::Method(_) => true,
        }
    }

    /// Go's name for the kind, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::NoValue | Self::Nil(Kind::Pointer) => "nil",
            Self::Bool(_) | Self::Nil(Kind::Bool) => "bool",
            Self::Int(_) | Self::Nil(Kind::Int) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) | Self::Nil(Kind::Text) => "string",
            Self::List(_) | Self::Nil(Kind::List) => "slice",
            Self::Map(..) | Self::Nil(Kind::TextMap | Kind::ListMap | Kind::StructMap) => "map",
            Self::Struct(_) => "struct",
            Self::Method(_) => "func",
        }
    }

    /// The entry of a map, or the zero value of its kind: what `index` gives.
    pub(crate) fn entry(&self, key: &str) -> Option<Self> {
        match self {
            Self::Map(entries, kind) => Some(
                entries
                    .get(key)
                    .cloned()
                    .unwrap_or_else(|| kind.element().zero()),
            ),
            Self::Nil(kind @ (Kind::TextMap | Kind::ListMap | Kind::StructMap)) => {
                Some(kind.element().zero())
            }
            Self::Struct(fields) => fields
                .iter()
                .find(|f| f.name == key)
                .map(|f| f.value.clone()),
            _ => None,
        }
    }

    /// JSON, as `{{json …}}` prints it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::NoValue | Self::Nil(_) | Self::Method(_) => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Int(n) => Value::from(*n),
            Self::Float(x) => Value::from(*x),
            Self::Text(s) => Value::from(&**s),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries, _) => Value::Object(
                entries
                    .iter()
                    .map(|(k, v)| (k.clone(), v.to_json()))
                    .collect(),
            ),
            Self::Struct(fields) => Value::Object(
                fields
                    .iter()
                    .filter(|f| !f.omitted && !matches!(f.value, Self::Method(_)))
                    .map(|f| (f.name.clone(), f.value.to_json()))
                    .collect(),
            ),
        }
    }
}

fn convert(value: &Value, schema: &Schema, path: &str) -> Data {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Null => schema.kind(path).unwrap_or(Kind::List).zero(),
        Value::Bool(b) => Data::Bool(*b),
        Value::Number(n) => n
            .as_i64()
            .map_or_else(|| Data::Float(n.as_f64().unwrap_or_default()), Data::Int),
        Value::String(s) => Data::text(s),
        Value::Array(items) => Data::list(items.iter().map(|v| convert(v, schema, path))),
        Value::Object(entries) => match schema.kind(path) {
            Some(kind @ (Kind::TextMap | Kind::ListMap | Kind::StructMap)) => {
                let path = below("*");
                let entries = entries
                    .iter()
                    .map(|(k, v)| (k.clone(), convert(v, schema, &path)))
                    .collect();
                Data::Map(Rc::new(entries), kind)
            }
            _ => {
                let present = entries.iter().map(|(name, v)| Field {
                    name: name.clone(),
                    value: convert(v, schema, &below(name)),
                    omitted: false,
                });
                let missing = schema
                    .fields(path)
                    .filter(|(name, _)| !entries.contains_key(*name))
                    .map(|(name, kind)| Field {
                        name: name.to_owned(),
                        value: kind.zero(),
                        omitted: true,
                    });
                Data::Struct(present.chain(missing).collect())
            }
        },
    }
}
