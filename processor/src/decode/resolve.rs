//! Avro's schema resolution: a writer's schema and the reader's → a [`Program`].
//!
//! The rules are those of the Avro 1.12 specification, "Schema Resolution". Beyond them, a field whose number has one logical meaning to the writer and
//! another to the reader (milliseconds and microseconds, two scales of a decimal) does not resolve: its values would be read wrong without a word.

use std::collections::HashMap;

use super::arrow;
use super::avro::{Body, Field, Logical, Named, NamedId, Schema, Type};
use super::defaults;
use super::program::{FieldOp, Op, Program, Record, Symbol};

/// How deep types may be nested.
const MAX_DEPTH: usize = 64;

/// Compiles a program that fills the columns `projection` (fields of the reader's record, none twice) and checks all other fields.
///
/// # Errors
/// The writer's schema does not resolve to the reader's: why, naming the field.
pub(super) fn resolve(writer: &Schema, reader: &Schema, projection: &[usize]) -> Result<Program, String> {
    let mut resolver = Resolver { writer, reader, projection, compiled: HashMap::new(), records: Vec::new(), depth: 0 };
    let root = resolver.types(&writer.root, &reader.root)?;
    Ok(Program { root, records: resolver.records })
}

struct Resolver<'a> {
    writer: &'a Schema,
    reader: &'a Schema,
    projection: &'a [usize],
    /// The index of each pair of records that is compiled, or is being compiled, or why it does not resolve; without a reader's, the writer's is only
    /// checked. So a type that contains itself is compiled once, as is one that is used many times.
    compiled: HashMap<(NamedId, Option<NamedId>), Result<usize, String>>,
    records: Vec<Record>,
    depth: usize,
}

impl<'a> Resolver<'a> {
    fn nested<T>(&mut self, compile: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("types are nested deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let compiled = compile(self);
        self.depth -= 1;
        compiled
    }

    fn types(&mut self, written: &'a Type, read: &'a Type) -> Result<Op, String> {
        if let Type::Union(branches) = written {
            return self.written_union(branches, read);
        }
        let (read, nullable) = arrow::nullable(read).ok_or("a union of several types cannot be read")?;
        if nullable && matches!(written, Type::Null) {
            return Ok(Op::Null);
        }
        match (written, read) {
            (Type::Int(from), Type::Int(to)) => same_meaning(*from, *to).map(|()| Op::Int),
            (Type::Int(from), Type::Long(to)) => same_meaning(*from, *to).map(|()| Op::IntToLong),
            (Type::Long(from), Type::Long(to)) => same_meaning(*from, *to).map(|()| Op::Long),
            (Type::Int(_), Type::Float) => Ok(Op::IntToFloat),
            (Type::Int(_), Type::Double) => Ok(Op::IntToDouble),
            (Type::Long(_), Type::Float) => Ok(Op::LongToFloat),
            (Type::Long(_), Type::Double) => Ok(Op::LongToDouble),
            (Type::Float, Type::Float) => Ok(Op::Float),
            (Type::Float, Type::Double) => Ok(Op::FloatToDouble),
            (Type::Double, Type::Double) => Ok(Op::Double),
            (Type::Boolean, Type::Boolean) => Ok(Op::Boolean),
            (Type::String(_) | Type::Bytes(None | Some(Logical::Uuid)), Type::String(_)) => Ok(Op::Text),
            (Type::String(_), Type::Bytes(None | Some(Logical::Uuid))) => Ok(Op::TextToBytes),
            (Type::Bytes(from), Type::Bytes(to)) => {
                same_meaning(*from, *to)?;
                Ok(if let Some(Logical::Decimal { precision, .. }) = to { Op::Decimal(*precision) } else { Op::Bytes })
            }
            (Type::Array(from), Type::Array(to)) => Ok(Op::Array(Box::new(self.nested(|resolver| resolver.types(from, to))?))),
            (Type::Map(from), Type::Map(to)) => Ok(Op::Map(Box::new(self.nested(|resolver| resolver.types(from, to))?))),
            (Type::Named(from), Type::Named(to)) => self.named(*from, *to),
            _ => Err(format!("is written as {}, but declared as {}", describe(self.writer, written), describe(self.reader, read))),
        }
    }

    /// A union resolves if one of its branches does; a value of another branch is refused when it comes.
    fn written_union(&mut self, branches: &'a [Type], read: &'a Type) -> Result<Op, String> {
        let mut ops = Vec::with_capacity(branches.len());
        let mut first_problem = None;
        let mut possible = false;
        for branch in branches {
            match self.nested(|resolver| resolver.types(branch, read)) {
                Ok(op) => {
                    possible = true;
                    ops.push(op);
                }
                Err(why) => {
                    first_problem.get_or_insert_with(|| why.clone());
                    ops.push(Op::Refuse(why));
                }
            }
        }
        if possible { Ok(Op::Union(ops)) } else { Err(first_problem.unwrap_or_else(|| "is written as a union of no types".into())) }
    }

    fn named(&mut self, from: NamedId, to: NamedId) -> Result<Op, String> {
        let (Some(written), Some(read)) = (self.writer.named(from), self.reader.named(to)) else {
            return Err("an undefined type".into());
        };
        match (&written.body, &read.body) {
            (Body::Record(_), Body::Record(_)) | (Body::Enum { .. }, Body::Enum { .. }) | (Body::Fixed { .. }, Body::Fixed { .. }) => {
                if !read.answers_to(written) {
                    return Err(format!(
                        "is written as {:?}, but declared as {:?}; if they are the same, make the first an alias of the second",
                        written.name, read.name
                    ));
                }
            }
            _ => return Err(format!("is written as {}, but declared as {}", kind(written), kind(read))),
        }
        match (&written.body, &read.body) {
            (Body::Enum { symbols, .. }, Body::Enum { symbols: known, default }) => {
                Ok(enumeration(symbols, |symbol| if known.contains(symbol) { Some(symbol.clone()) } else { default.clone() }))
            }
            (Body::Fixed { size: from, logical: had }, Body::Fixed { size: to, logical: has }) => {
                if from != to {
                    return Err(format!("is written in {from} bytes, but declared to have {to}"));
                }
                same_meaning(*had, *has)?;
                Ok(if let Some(Logical::Decimal { precision, .. }) = has { Op::FixedDecimal(*to, *precision) } else { Op::Fixed(*to) })
            }
            (Body::Record(fields), Body::Record(wanted)) => {
                self.record((from, Some(to)), |resolver| resolver.read_fields(fields, wanted, Type::Named(to) == resolver.reader.root))
            }
            _ => Err("an impossible pair of types".into()),
        }
    }

    fn record(&mut self, key: (NamedId, Option<NamedId>), compile: impl FnOnce(&mut Self) -> Result<Record, String>) -> Result<Op, String> {
        if let Some(known) = self.compiled.get(&key) {
            return known.clone().map(Op::Record);
        }
        let index = self.records.len();
        self.compiled.insert(key, Ok(index));
        self.records.push(Record::default());
        match self.nested(compile) {
            Ok(record) => {
                if let Some(place) = self.records.get_mut(index) {
                    *place = record;
                }
                Ok(Op::Record(index))
            }
            Err(why) => {
                // What was compiled meanwhile may rely on this record: it is compiled again when it is needed again.
                self.compiled.retain(|_, known| known.as_ref().is_ok_and(|known| *known < index) || known.is_err());
                self.compiled.insert(key, Err(why.clone()));
                Err(why)
            }
        }
    }

    fn read_fields(&mut self, fields: &'a [Field], wanted: &'a [Field], is_root: bool) -> Result<Record, String> {
        let part = |index: usize| if is_root { self.projection.iter().position(|column| *column == index) } else { Some(index) };
        let parts: Vec<Option<usize>> = (0..wanted.len()).map(part).collect();
        // Which of the writer's fields each of the reader's is: the one of its name, else of its aliases, in their order.
        let mut matched: HashMap<&str, usize> = HashMap::new();
        let mut missing = Vec::new();
        let written: HashMap<&str, &Field> = fields.iter().map(|field| (field.name.as_str(), field)).collect();
        for ((index, field), part) in wanted.iter().enumerate().zip(&parts) {
            let mut names = std::iter::once(field.name.as_str()).chain(field.aliases.iter().map(String::as_str));
            if let Some(name) = names.find(|name| written.contains_key(name) && !matched.contains_key(name)) {
                matched.insert(name, index);
                continue;
            }
            let default = defaults::default_of(self.reader, field)?;
            let constant = default.ok_or_else(|| format!("field {:?} is not written, and has no default", field.name))?;
            missing.extend(part.map(|part| (part, constant)));
        }
        let mut ops = Vec::with_capacity(fields.len());
        for field in fields {
            let index = matched.get(field.name.as_str()).copied();
            let op = match index.and_then(|index| wanted.get(index)) {
                Some(read) => self.types(&field.of, &read.of),
                None => self.check(&field.of),
            };
            let op = op.map_err(|why| format!("field {:?} {why}", field.name))?;
            ops.push(FieldOp { name: field.name.clone(), op, part: index.and_then(|index| parts.get(index).copied().flatten()) });
        }
        Ok(Record { fields: ops, missing })
    }

    /// A type that the reader does not have: read as what it is, appended to nothing.
    fn check(&mut self, written: &'a Type) -> Result<Op, String> {
        Ok(match written {
            Type::Null => Op::Null,
            Type::Boolean => Op::Boolean,
            Type::Int(_) => Op::Int,
            Type::Long(_) => Op::Long,
            Type::Float => Op::Float,
            Type::Double => Op::Double,
            Type::Bytes(_) => Op::Bytes,
            Type::String(_) => Op::Text,
            Type::Array(items) => Op::Array(Box::new(self.nested(|resolver| resolver.check(items))?)),
            Type::Map(values) => Op::Map(Box::new(self.nested(|resolver| resolver.check(values))?)),
            Type::Union(branches) => {
                Op::Union(self.nested(|resolver| branches.iter().map(|branch| resolver.check(branch)).collect::<Result<_, _>>())?)
            }
            Type::Named(id) => match self.writer.named(*id).map(|named| &named.body) {
                Some(Body::Enum { symbols, .. }) => enumeration(symbols, |symbol| Some(symbol.clone())),
                Some(Body::Fixed { size, .. }) => Op::Fixed(*size),
                Some(Body::Record(fields)) => self.record((*id, None), |resolver| {
                    let field = |field: &'a Field| {
                        let op = resolver.check(&field.of).map_err(|why| format!("field {:?}: {why}", field.name))?;
                        Ok(FieldOp { name: field.name.clone(), op, part: None })
                    };
                    Ok(Record { fields: fields.iter().map(field).collect::<Result<_, String>>()?, missing: Vec::new() })
                })?,
                None => return Err("has an undefined type".into()),
            },
        })
    }
}

fn enumeration(symbols: &[String], read: impl Fn(&String) -> Option<String>) -> Op {
    Op::Enum(symbols.iter().map(|symbol| Symbol { written: symbol.clone(), read: read(symbol) }).collect())
}

/// Whether a number means the same to both. One side may know of no meaning.
fn same_meaning(written: Option<Logical>, read: Option<Logical>) -> Result<(), String> {
    match (written, read) {
        (Some(Logical::Decimal { scale: from, .. }), Some(Logical::Decimal { scale: to, .. })) if from != to => {
            Err(format!("is written with {from} decimal places, but declared with {to}"))
        }
        // Every text and all bytes may be one: nothing is read differently for it.
        (Some(Logical::Uuid), _) | (_, Some(Logical::Uuid)) => Ok(()),
        (Some(from), Some(to)) if from.name() != to.name() => Err(format!("is written as {}, but declared as {}", from.name(), to.name())),
        _ => Ok(()),
    }
}

fn describe(schema: &Schema, of: &Type) -> String {
    match of {
        Type::Null => "null".into(),
        Type::Boolean => "boolean".into(),
        Type::Int(logical) => with_logical("int", *logical),
        Type::Long(logical) => with_logical("long", *logical),
        Type::Float => "float".into(),
        Type::Double => "double".into(),
        Type::Bytes(logical) => with_logical("bytes", *logical),
        Type::String(_) => "string".into(),
        Type::Array(_) => "array".into(),
        Type::Map(_) => "map".into(),
        Type::Union(_) => "union".into(),
        Type::Named(id) => schema.named(*id).map_or_else(|| "an undefined type".into(), kind),
    }
}

fn with_logical(name: &str, logical: Option<Logical>) -> String {
    logical.map_or_else(|| name.into(), |logical| format!("{} ({name})", logical.name()))
}

fn kind(named: &Named) -> String {
    let kind = match &named.body {
        Body::Record(_) => "record",
        Body::Enum { .. } => "enum",
        Body::Fixed { .. } => "fixed",
    };
    format!("{kind} {:?}", named.name)
}
