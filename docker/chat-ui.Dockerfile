# syntax=docker/dockerfile:1.7
# LangChain's Agent Chat UI in front of qwenkit's agent, from the repository's root:
#   docker build -f docker/chat-ui.Dockerfile -t qwenkit/chat-ui .

FROM node:22.20.0-bookworm-slim AS page
ARG CREATE_AGENT_CHAT_APP=0.1.6
WORKDIR /page
# The template as it was published; the lock, which it comes without, is ours.
RUN npm pack "create-agent-chat-app@${CREATE_AGENT_CHAT_APP}" \
    && tar --extract --file "create-agent-chat-app-${CREATE_AGENT_CHAT_APP}.tgz" \
        --strip-components=3 package/templates/vite
COPY docker/chat-ui/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund && npx --no-install vite build


FROM nginxinc/nginx-unprivileged:1.28.0-alpine
COPY docker/chat-ui/default.conf.template /etc/nginx/templates/default.conf.template
COPY --from=page /page/dist /usr/share/nginx/html
# What a container is started with: LANGGRAPH_API_URL, where the page's /agent goes, and
# LANGSMITH_API_KEY, the key for it. nginx does not start without them.
# NEXT_PUBLIC_API_URL is what browsers call; empty is the page's own /agent.
ENV CHAT_UI_HOSTS="localhost 127.0.0.1 [::1]" \
    NEXT_PUBLIC_API_URL="" \
    NEXT_PUBLIC_ASSISTANT_ID=agent \
    NGINX_ENTRYPOINT_LOCAL_RESOLVERS=1
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["wget", "--quiet", "--spider", "http://127.0.0.1:8080/logo.svg"]
