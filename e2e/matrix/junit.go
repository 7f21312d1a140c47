package matrix

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
)

// The form of JUnit's XML that job engines read: a suite is the matrix, a case a
// cell; a difference is a failure, the suite's own failure an error.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Time      string      `xml:"time,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitProblem `xml:"failure"`
		Error   *junitProblem `xml:"error"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitProblem struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit is the matrix as JUnit XML.
func (r Results) JUnit() ([]byte, error) {
	suite := junitSuite{
		Name: "wce2e matrix", Tests: len(r.Outcomes), Failures: r.Count(Differs), Errors: r.Count(Failed),
		Time: seconds(r.Ended.Sub(r.Began)), Timestamp: r.Began.UTC().Format("2006-01-02T15:04:05"),
	}
	for _, o := range r.Outcomes {
		suite.Cases = append(suite.Cases, o.junit())
	}
	body, err := xml.MarshalIndent(junitSuites{Suites: []junitSuite{suite}}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write JUnit XML: %w", err)
	}
	return append([]byte(xml.Header), append(body, '\n')...), nil
}

func (o Outcome) junit() junitCase {
	c := junitCase{Class: "matrix", Name: o.Cell.String(), Time: seconds(time.Duration(o.TookMS * float64(time.Millisecond))), Output: o.Seen.Way}
	lines := o.told()
	switch o.State() {
	case Differs:
		var columns []string
		for _, d := range o.Differs {
			columns = append(columns, d.Column)
		}
		c.Failure = &junitProblem{Message: "not as expected: " + strings.Join(columns, ", "), Text: strings.Join(lines, "\n")}
	case Failed:
		c.Error = &junitProblem{Message: "the suite failed", Text: strings.Join(lines, "\n")}
	}
	return c
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
