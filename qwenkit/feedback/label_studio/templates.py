"""How a task looks to the people who judge it: Label Studio's configurations. Knows no task.

What a control is called here is what `annotations` reads it by: the web page writes its own name
where the name of the judged object should be, so nothing else tells controls apart.
"""

from __future__ import annotations

from enum import StrEnum


class Template(StrEnum):
    """What people are asked."""

    PAIRS = "pairs"
    RATINGS = "ratings"


PREFERENCE, VERDICT, COMMENT = "preference", "verdict", "comment"
THUMB, SCALE, EDITED = "thumb", "scale", "edited"
TIE, BOTH_BAD = "Equally good", "Both bad"
UP, DOWN = "Good", "Bad"

MARKS = {Template.PAIRS: "qwenkit-pairs", Template.RATINGS: "qwenkit-ratings"}
"""What a configuration of ours says of itself, so that none of somebody else's is overwritten."""
EMPTY_CONFIGS = ("", "<View></View>", "<View/>")

_STYLE = """  <Style>
    .qk-answer { padding: 0.75em 1em; border: 1px solid #8884; border-radius: 8px; }
    .qk-answer, .qk-thinking { white-space: pre-wrap; }
    .qk-thinking { opacity: 0.75; }
  </Style>
  <Header value="Conversation"/>
  <Paragraphs name="conversation" value="$conversation" layout="dialogue"
              nameKey="role" textKey="content"/>"""

PAIRS_CONFIG = f"""<View className="{MARKS[Template.PAIRS]}">
{_STYLE}
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em">
    <View className="qk-answer">
      <Header value="Answer A"/>
      <Collapse><Panel value="Thinking">
        <View className="qk-thinking"><Text name="thinking_a" value="$thinking_a"/></View>
      </Panel></Collapse>
      <Text name="answer_a" value="$answer_a"/>
    </View>
    <View className="qk-answer">
      <Header value="Answer B"/>
      <Collapse><Panel value="Thinking">
        <View className="qk-thinking"><Text name="thinking_b" value="$thinking_b"/></View>
      </Panel></Collapse>
      <Text name="answer_b" value="$answer_b"/>
    </View>
  </View>
  <Header value="Click the better answer; if there is none, say so"/>
  <Pairwise name="{PREFERENCE}" toName="answer_a,answer_b"/>
  <Choices name="{VERDICT}" toName="answer_a" choice="single-radio" showInline="true">
    <Choice value="{TIE}"/>
    <Choice value="{BOTH_BAD}"/>
  </Choices>
  <TextArea name="{COMMENT}" toName="answer_a" rows="2" maxSubmissions="1" editable="true"
            placeholder="Why?"/>
</View>
"""

RATINGS_CONFIG = f"""<View className="{MARKS[Template.RATINGS]}">
{_STYLE}
  <View className="qk-answer">
    <Header value="Answer"/>
    <Collapse><Panel value="Thinking">
      <View className="qk-thinking"><Text name="thinking" value="$thinking"/></View>
    </Panel></Collapse>
    <Text name="answer" value="$answer"/>
  </View>
  <Choices name="{THUMB}" toName="answer" choice="single-radio" showInline="true">
    <Choice value="{UP}"/>
    <Choice value="{DOWN}"/>
  </Choices>
  <Rating name="{SCALE}" toName="answer" maxRating="5"/>
  <TextArea name="{COMMENT}" toName="answer" rows="2" maxSubmissions="1" editable="true"
            placeholder="Why?"/>
  <TextArea name="{EDITED}" toName="answer" rows="6" maxSubmissions="1" editable="true"
            placeholder="How should the answer read?"/>
</View>
"""

CONFIGS = {Template.PAIRS: PAIRS_CONFIG, Template.RATINGS: RATINGS_CONFIG}
TITLES = {
    Template.PAIRS: "qwenkit: which answer is better?",
    Template.RATINGS: "qwenkit: how good is the answer?",
}
INSTRUCTIONS = {
    Template.PAIRS: "Both answers were written for the same conversation. Click the better one; "
    "say when they are equally good, or both bad. Thinking is folded away: judge the answers.",
    Template.RATINGS: "Judge the answer: good or bad, from one to five stars, or both. You may "
    "write how it should read.",
}
