//! As much of JSON Schema as the API's description uses. A keyword that is not known here fails the test: nothing in the
//! description goes unchecked.

use serde_json::Value;

/// Checks a value; `root` is the document that references point into.
pub fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{at}: {value}: {why}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$ref" => {
                let pointer =
                    rule.as_str().and_then(|text| text.strip_prefix('#')).expect("a local reference");
                let target = root.pointer(pointer).unwrap_or_else(|| panic!("{rule} leads nowhere"));
                check(root, target, value, at)?;
            }
            "type" => {
                let one = std::slice::from_ref(rule);
                let types = rule.as_array().map_or(one, Vec::as_slice);
                if !types.iter().any(|name| is_of(name.as_str().expect("a name"), value)) {
                    return wrong(format!("not {rule}"));
                }
            }
            "enum" if !rule.as_array().expect("a list").contains(value) => {
                return wrong(format!("not one of {rule}"));
            }
            "oneOf" => {
                let schemas = rule.as_array().expect("a list");
                let fitting = schemas.iter().filter(|schema| check(root, schema, value, at).is_ok()).count();
                if fitting != 1 {
                    return wrong(format!("{fitting} of oneOf fit"));
                }
            }
            "allOf" => {
                for schema in rule.as_array().expect("a list") {
                    check(root, schema, value, at)?;
                }
            }
            "required" => {
                let names = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                if let Some(name) = names.into_iter().find(|name| value.get(name).is_none()) {
                    return wrong(format!("{name} is missing"));
                }
            }
            "properties" => {
                for (name, schema) in rule.as_object().expect("an object") {
                    if let Some(member) = value.get(name) {
                        check(root, schema, member, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(*rule, Value::Bool(false));
                let known = schema["properties"].as_object().expect("an object");
                let members = value.as_object().into_iter().flatten();
                if let Some((name, _)) = members.into_iter().find(|(name, _)| !known.contains_key(*name)) {
                    return wrong(format!("{name} is not described"));
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "minimum" if value.as_f64() < rule.as_f64() && value.is_number() => {
                return wrong(format!("less than {rule}"));
            }
            "maximum" if value.as_f64() > rule.as_f64() => return wrong(format!("more than {rule}")),
            "minLength" | "maxLength" => {
                let length = value.as_str().map_or(0, |text| text.chars().count() as u64);
                let limit = rule.as_u64().expect("a number");
                if if keyword == "minLength" { length < limit } else { length > limit } {
                    return wrong(format!("{keyword} is {limit}"));
                }
            }
            "maxItems"
                if value.as_array().is_some_and(|list| list.len() as u64 > rule.as_u64().unwrap_or(0)) =>
            {
                return wrong(format!("more than {rule}"));
            }
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().expect("a pattern")).expect("a pattern");
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    return wrong(format!("does not match {rule}"));
                }
            }
            "if" => {
                let branch = if check(root, rule, value, at).is_ok() { "then" } else { "else" };
                if let Some(schema) = schema.get(branch) {
                    check(root, schema, value, at)?;
                }
            }
            "const" if value != rule => return wrong(format!("not {rule}")),
            "enum" | "minimum" | "maximum" | "maxItems" | "const" | "then" | "else" | "description"
            | "examples" => {}
            unknown => panic!("{at}: the keyword {unknown:?} is not checked"),
        }
    }
    Ok(())
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    }
}
