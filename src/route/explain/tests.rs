use super::*;

fn part(heading: Option<&str>, group: Group, answer: &str) -> Part {
    Part {
        heading: heading.map(ToOwned::to_owned),
        group,
        answer: answer
            .lines()
            .map(|line| Bytes::copy_from_slice(line.as_bytes()))
            .collect(),
    }
}

fn whole(part: Part) -> Part {
    let answer = part.answer.join(&b'\n');
    Part {
        answer: vec![answer.into()],
        ..part
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn shown(parts: Vec<Part>) -> Shown {
    Shown {
        heading: "pgshunt: read all shards".to_owned(),
        group: vec![
            ("Because", text("so\nit is <\"said\">")),
            ("Shards", Value::List(vec![text("s1"), text("s2")])),
            (
                "Steps",
                Value::List(vec![Value::Group(vec![
                    ("Step", text("merge")),
                    ("Rows", Value::Number("3".to_owned())),
                ])]),
            ),
        ],
        parts,
    }
}

fn named(shard: &str, answer: &str) -> Part {
    let heading = format!("Shard {shard}");
    part(Some(&heading), vec![("Shard", text(shard))], answer)
}

fn rendered(parts: Vec<Part>, format: Format) -> String {
    let rows = shown(parts).rows(format);
    let rows: Vec<String> = rows
        .into_iter()
        .map(|row| String::from_utf8(row).unwrap())
        .collect();
    if format != Format::Text {
        assert_eq!(rows.len(), 1);
    }
    rows.join("\n")
}

#[test]
fn lines_are_indented_below_their_shard() {
    let parts = vec![named("s1", "Seq Scan\n  Filter: x"), named("s2", "Result")];
    let expected = "pgshunt: read all shards
  Because: so it is <\"said\">
  Shards: s1, s2
  Step: merge  (rows=3)
  ->  Shard s1
        Seq Scan
          Filter: x
  ->  Shard s2
        Result";
    assert_eq!(rendered(parts, Format::Text), expected);
    let alone = vec![part(None, Vec::new(), "Seq Scan\n  Filter: x")];
    assert_eq!(
        rendered(alone, Format::Text),
        "pgshunt: read all shards\nSeq Scan\n  Filter: x"
    );
}

const JSON: &str = "[\n  {\n    \"Plan\": {\n      \"Node Type\": \"Result\"\n    },\n    \"Planning Time\": 0.10\n  }\n]";

#[test]
fn json_stays_json_with_every_plan_in_its_place() {
    let parts = vec![whole(named("s1", JSON)), whole(named("s2", JSON))];
    let text = rendered(parts, Format::Json);
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (n, shard) in ["s1", "s2"].into_iter().enumerate() {
        assert_eq!(read[n]["Shard"], shard);
        assert_eq!(read[n]["Plan"]["Node Type"], "Result");
    }
    assert_eq!(read[0]["pgshunt"]["Because"], "so\nit is <\"said\">");
    assert_eq!(read[0]["pgshunt"]["Steps"][0]["Rows"], 3);
    assert_eq!(read.as_array().unwrap().len(), 2);
    assert!(text.contains("0.10"), "its own bytes: {text}");
}

#[test]
fn an_answer_of_another_form_is_shown_as_a_text() {
    let parts = vec![whole(named("s1", "something else"))];
    for format in [Format::Json, Format::Yaml, Format::Xml] {
        let text = rendered(parts.clone(), format);
        assert!(text.contains("something else") && text.contains("pgshunt"));
    }
    let text = rendered(parts, Format::Json);
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read[0]["Answer"], "something else");
}

#[test]
fn yaml_and_xml_have_an_element_for_each_answer() {
    let yaml = "- Plan: \n    Node Type: \"Result\"\n  Planning Time: 0.1";
    let parts = vec![whole(named("s1", yaml)), whole(named("s2", yaml))];
    let expected = "- pgshunt: 
    Because: \"so\\nit is <\\\"said\\\">\"
    Shards: 
      - \"s1\"
      - \"s2\"
    Steps: 
      - Step: \"merge\"
        Rows: 3
  Shard: \"s1\"
  Plan: 
    Node Type: \"Result\"
  Planning Time: 0.1
- Shard: \"s2\"
  Plan: 
    Node Type: \"Result\"
  Planning Time: 0.1";
    assert_eq!(rendered(parts, Format::Yaml), expected);
    let xml = "<explain xmlns=\"http://www.postgresql.org/2009/explain\">
  <Query>
    <Plan>
    </Plan>
  </Query>
</explain>";
    let parts = vec![whole(named("s1", xml)), whole(named("s2", xml))];
    let expected = "<explain xmlns=\"http://www.postgresql.org/2009/explain\">
  <Query>
    <pgshunt>
      <Because>so
it is &lt;\"said\"&gt;</Because>
      <Shards>
        <Item>s1</Item>
        <Item>s2</Item>
      </Shards>
      <Steps>
        <Item>
          <Step>merge</Step>
          <Rows>3</Rows>
        </Item>
      </Steps>
    </pgshunt>
    <Shard>s1</Shard>
    <Plan>
    </Plan>
  </Query>
  <Query>
    <Shard>s2</Shard>
    <Plan>
    </Plan>
  </Query>
</explain>";
    assert_eq!(rendered(parts, Format::Xml), expected);
}
