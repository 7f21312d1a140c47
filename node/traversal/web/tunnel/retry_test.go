package tunnel

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestFailuresAreRetriedWithGrowingPausesForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		try := retry{ctx: t.Context()}
		begin, tries := time.Now(), 0
		for try.next(errors.New("connection reset")) {
			tries++
		}
		if took := time.Since(begin); took < retryFor || took > retryFor+retryMost || tries < 10 || tries > 20 {
			t.Errorf("%d tries in %s", tries, took)
		}
	})
}

func TestAnswersThatBringNothingAreAskedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		try := retry{ctx: t.Context()}
		begin := time.Now()
		for range 100 {
			if !try.next(nil) {
				t.Fatal("gave up")
			}
		}
		if took := time.Since(begin); took < 90*time.Second {
			t.Errorf("100 times in %s: a server could keep us busy", took)
		}
		time.Sleep(streamFor) // an answer that took its time
		begin = time.Now()
		try.next(nil)
		if took := time.Since(begin); took != retryFirst {
			t.Errorf("then a pause of %s", took)
		}
	})
}

func TestFinalAnswersAreNotRetried(t *testing.T) {
	for err, want := range map[error]bool{
		&StatusError{Status: http.StatusForbidden}:          true,
		&StatusError{Status: http.StatusNotFound}:           true,
		&StatusError{Status: http.StatusOK}:                 true,
		&StatusError{Status: http.StatusServiceUnavailable}: false,
		&StatusError{Status: http.StatusTooManyRequests}:    false,
		ErrGiveUp:                               true,
		errors.New("connection refused"):        false,
		errors.Join(errors.New("x"), errOffset): true,
	} {
		if final(err) != want {
			t.Errorf("%v: final %v", err, !want)
		}
	}
}
