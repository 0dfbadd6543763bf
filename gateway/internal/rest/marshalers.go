package rest

import (
	"bytes"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const eventStream = "text/event-stream"

// ndjson is JSON for single answers and newline-delimited JSON for streams: `{"result": …}` a line.
type ndjson struct{ *runtime.JSONPb }

// newJSON writes zeros and empty lists, so that keys are stable, and refuses unknown fields, so that a misspelt one is not
// silently ignored.
func newJSON() ndjson {
	return ndjson{&runtime.JSONPb{
		MarshalOptions:   protojson.MarshalOptions{EmitDefaultValues: true},
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
}

// StreamContentType is what a stream is sent as.
func (ndjson) StreamContentType(any) string { return "application/x-ndjson" }

// serverSentEvents writes each message of a stream as one event: its data is the message as JSON, its name the field that is
// set in the message's `oneof event`, where it has one. A failure in mid-stream is an event named `error`.
type serverSentEvents struct{ ndjson }

// StreamContentType is what a stream is sent as.
func (*serverSentEvents) StreamContentType(any) string { return eventStream }

// Delimiter is what stands between events: each ends with its own blank line.
func (*serverSentEvents) Delimiter() []byte { return nil }

// Marshal writes an event for a stream's chunk, plain JSON for anything else.
func (s *serverSentEvents) Marshal(value any) ([]byte, error) {
	switch chunk := value.(type) {
	case map[string]any:
		if message, ok := chunk["result"].(proto.Message); ok {
			return s.event(eventName(message), message)
		}
	case map[string]proto.Message:
		if failure, ok := chunk["error"]; ok {
			return s.event("error", failure)
		}
	}
	return s.ndjson.Marshal(value)
}

func (s *serverSentEvents) event(name string, message proto.Message) ([]byte, error) {
	data, err := s.ndjson.Marshal(message) // one line: protojson escapes line ends
	if err != nil {
		return nil, err
	}
	var event bytes.Buffer
	if name != "" {
		event.WriteString("event: " + name + "\n")
	}
	event.WriteString("data: ")
	event.Write(data)
	event.WriteString("\n\n")
	return event.Bytes(), nil
}

func eventName(message proto.Message) string {
	reflected := message.ProtoReflect()
	oneof := reflected.Descriptor().Oneofs().ByName("event")
	if oneof == nil {
		return ""
	}
	if field := reflected.WhichOneof(oneof); field != nil {
		return string(field.Name())
	}
	return ""
}
