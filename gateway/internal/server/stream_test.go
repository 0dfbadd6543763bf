package server_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
)

type answerStream = orchestratorv1.OrchestratorService_StreamAnswerServer

func started(id string) *orchestratorv1.StreamAnswerResponse {
	return &orchestratorv1.StreamAnswerResponse{
		Event: &orchestratorv1.StreamAnswerResponse_Started{Started: &orchestratorv1.Started{AnswerId: id}},
	}
}

func delta(text string) *orchestratorv1.StreamAnswerResponse {
	return &orchestratorv1.StreamAnswerResponse{
		Event: &orchestratorv1.StreamAnswerResponse_Delta{Delta: &orchestratorv1.Delta{Text: text}},
	}
}

// inSteps streams one message each time the test asks for it, so that a message that is held back is seen as such.
func inSteps(steps <-chan *orchestratorv1.StreamAnswerResponse, end error) func(*orchestratorv1.StreamAnswerRequest, answerStream) error {
	return func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
		for message := range steps {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		return end
	}
}

// lines reads a body in the background.
func lines(response *http.Response) <-chan string {
	channel := make(chan string)
	go func() {
		defer close(channel)
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			channel <- scanner.Text()
		}
	}()
	return channel
}

func TestAStreamIsNDJSONAndEachMessageIsFlushed(t *testing.T) {
	mesh, gateway := start(t)
	steps := make(chan *orchestratorv1.StreamAnswerResponse, 1)
	mesh.orchestrator.stream = inSteps(steps, nil)
	steps <- started("a1")
	response := send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{"question":{"text":"?"}}`))
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("got %d %v", response.StatusCode, response.Header)
	}
	body := lines(response)
	if line := arrives(t, body, "the first line"); canonical(t, line) != canonical(t, `{"result":{"started":{"answerId":"a1","standaloneQuestion":"","furtherSearches":[]}}}`) {
		t.Errorf("got %s", line)
	}
	steps <- delta("two\nlines")
	if line := arrives(t, body, "the second line"); canonical(t, line) != canonical(t, `{"result":{"delta":{"text":"two\nlines"}}}`) {
		t.Errorf("got %s", line)
	}
	close(steps)
	if line, more := <-body; more {
		t.Errorf("got %s after the end", line)
	}
}

func TestAStreamIsServerSentEventsWhereThatIsAcceptedAndAFailureInMidStreamIsOne(t *testing.T) {
	mesh, gateway := start(t)
	steps := make(chan *orchestratorv1.StreamAnswerResponse, 1)
	mesh.orchestrator.stream = inSteps(steps, overloaded(t))
	steps <- started("a1")
	response := send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{}`), "Accept", "text/event-stream, */*;q=0.1")
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" ||
		response.Header.Get("X-Accel-Buffering") != "no" {
		t.Fatalf("got %d %v", response.StatusCode, response.Header)
	}
	body := lines(response)
	expectEvent(t, body, "started", `{"started":{"answerId":"a1","standaloneQuestion":"","furtherSearches":[]}}`)
	steps <- delta("two\nlines")
	expectEvent(t, body, "delta", `{"delta":{"text":"two\nlines"}}`)
	close(steps)
	expectEvent(t, body, "error", `{"code":8,"message":"32 requests run already.","details":[
		{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"OVERLOADED","domain":"murphey","metadata":{"service":"orchestrator"}},
		{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"}]}`)
	if line, more := <-body; more {
		t.Errorf("got %q after the end", line)
	}
}

func expectEvent(t *testing.T, body <-chan string, name, data string) {
	t.Helper()
	if name != "" {
		if line := arrives(t, body, "an event"); line != "event: "+name {
			t.Errorf("got %q, want event %s", line, name)
		}
	}
	line, found := strings.CutPrefix(arrives(t, body, "data"), "data: ")
	if !found || canonical(t, line) != canonical(t, data) {
		t.Errorf("got  %s\nwant %s", line, data)
	}
	if line := arrives(t, body, "the blank line"); line != "" {
		t.Errorf("got %q, want a blank line", line)
	}
}

func TestWatchJobStreamsBothWays(t *testing.T) {
	mesh, gateway := start(t)
	mesh.ingest.watch = func(r *ingestv1.WatchJobRequest, stream ingestv1.IngestService_WatchJobServer) error {
		return stream.Send(&ingestv1.WatchJobResponse{Job: &ingestv1.Job{Name: r.GetName(), State: ingestv1.JobState_JOB_STATE_SUCCEEDED}})
	}
	job := `{"job":{"name":"jobs/7","document":"","displayName":"","batch":"","state":"JOB_STATE_SUCCEEDED",
		"stage":"JOB_STAGE_UNSPECIFIED","outcome":"JOB_OUTCOME_UNSPECIFIED","totalChunks":0,"indexedChunks":0,
		"archive":"","kind":"JOB_KIND_UNSPECIFIED","totalDocuments":0,"indexedDocuments":0}}`
	response := send(t, "GET", gateway.url+"/v1/jobs/7:watch", nil, "Accept", "text/event-stream")
	expectEvent(t, lines(response), "", job)
	response = send(t, "GET", gateway.url+"/v1/jobs/7:watch", nil)
	if got := text(t, response); canonical(t, got) != canonical(t, `{"result":`+job+`}`) {
		t.Errorf("got %s", got)
	}
}

func TestAStreamThatFailsBeforeItsFirstMessageHasTheTrueStatus(t *testing.T) {
	mesh, gateway := start(t)
	for _, headerFirst := range []bool{false, true} {
		mesh.orchestrator.stream = func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
			if headerFirst { // as a service does that sends its header before it works
				if err := stream.SendHeader(metadata.Pairs("a", "b")); err != nil {
					return err
				}
			}
			return overloaded(t)
		}
		for _, accept := range []string{"*/*", "text/event-stream"} {
			response := send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{}`), "Accept", accept)
			if response.Header.Get("Retry-After") != "2" || response.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %v", response.Header)
			}
			expectError(t, response, http.StatusTooManyRequests, codes.ResourceExhausted, "32 requests run already.")
		}
	}
}

func TestAnEmptyStreamIsNoError(t *testing.T) {
	mesh, gateway := start(t)
	mesh.orchestrator.stream = func(*orchestratorv1.StreamAnswerRequest, answerStream) error { return nil }
	response := send(t, "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{}`))
	if body := text(t, response); response.StatusCode != 200 || body != "" {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
}

func TestClosingTheRequestCancelsTheCall(t *testing.T) {
	mesh, gateway := start(t)
	cancelled := make(chan error, 1)
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		cancelled <- ctx.Err()
		return status.FromContextError(ctx.Err()).Err()
	}
	called := make(chan bool, 1)
	mesh.orchestrator.answer = func(ctx context.Context, _ *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
		called <- true
		return nil, wait(ctx)
	}
	mesh.orchestrator.stream = func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
		if err := stream.Send(started("a1")); err != nil {
			return err
		}
		return wait(stream.Context())
	}

	ctx, cancel := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{}`))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	arrives(t, lines(response), "the first message")
	cancel()
	arrives(t, cancelled, "the cancellation of a stream")

	ctx, cancel = context.WithCancel(t.Context())
	request, _ = http.NewRequestWithContext(ctx, "POST", gateway.url+"/v1/answers", strings.NewReader(`{}`))
	go func() {
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
		}
	}()
	arrives(t, called, "the call")
	cancel()
	arrives(t, cancelled, "the cancellation of a unary call")
}
